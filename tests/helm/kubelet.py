"""Runs the containers of rendered objects on this machine, as a kubelet would: command, arguments and environment are theirs,
secrets are files and variables, probes are asked. Only where things are differs: mounts are folders of a scratch directory,
ports are free ones, and names of Services lead to this machine.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chart import containers_of, of_kind, pod_of

# How long something may take that happens by itself.
PATIENCE = 60

# After how long Kubernetes kills what it told to end.
KILLED_AFTER = 30


class Kubelet:
    """One node, for one release."""

    def __init__(self, programs, scratch, secrets, objects):
        self.programs, self.scratch, self.secrets = programs, scratch, secrets
        self.ports = {}
        self.services = {}
        # Addresses of others, and where they are here.
        self.elsewhere = {}
        for service in of_kind(objects, "Service"):
            for port in service["spec"]["ports"]:
                self.services[service["metadata"]["name"], port["port"]] = port["targetPort"]
        for container in containers_of(of_kind(objects, "Deployment")[0]):
            for port in container["ports"]:
                self.ports[port["name"]] = self.ports[port["containerPort"]] = free_port()

    def run(self, rendered, index=None, **settings):
        """Runs the one container of an object to its end; gives its exit code and what it said."""
        command, environment = self.prepared(rendered, index)
        ended = subprocess.run(command, env={**environment, **settings}, cwd=self.scratch, capture_output=True, text=True,
                               timeout=PATIENCE, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    def end(self, rendered):
        """Starts the one container of an object, and ends it as Kubernetes does: as the first process, which no signal ends that it
        does nothing about. Gives its exit code and what it said."""
        command, environment = self.prepared(rendered, 0)
        first = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--pid", "--fork", "--kill-child"]
        with subprocess.Popen([*first, *command], env={"PATH": os.environ["PATH"], **environment}, cwd=self.scratch, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            os.kill(until_it_hears(process), signal.SIGTERM)
            try:
                said, _ = process.communicate(timeout=KILLED_AFTER)
            finally:
                process.kill()
        return process.returncode, said

    def start(self, deployment):
        command, environment = self.prepared(deployment, None)
        return Started(self, deployment, command, environment)

    def prepared(self, rendered, index):
        pod = pod_of(rendered)["spec"]
        [container] = pod["containers"]
        mounts = {mount["mountPath"]: self.mounted(pod, mount) for mount in container["volumeMounts"]}
        environment = {}
        for variable in container.get("env", []):
            environment[variable["name"]] = self.here(self.value_of(variable, index), mounts)
        # As Kubernetes does it.
        arguments = [re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], found[0]), argument)
                     for argument in container["command"] + container.get("args", [])]
        return [self.programs / arguments[0], *arguments[1:]], environment

    def mounted(self, pod, mount):
        """The folder that stands for a mount, with what a volume has in it."""
        folder = self.scratch / mount["name"]
        folder.mkdir(exist_ok=True)
        [volume] = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        if "projected" in volume:
            folder = self.scratch / f"secrets-{abs(hash(str(volume)))}"
            folder.mkdir(exist_ok=True)
            for source in volume["projected"]["sources"]:
                for item in source["secret"]["items"]:
                    (folder / item["path"]).write_text(self.secrets[source["secret"]["name"]][item["key"]])
        return folder

    def value_of(self, variable, index):
        match variable.get("valueFrom"):
            case None:
                return variable["value"]
            case {"secretKeyRef": {"name": name, "key": key}}:
                return self.secrets[name][key]
            case {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}:
                return str(index)
        raise ValueError(f"{variable}: a source that this kubelet doesn't know")

    def here(self, value, mounts):
        """A value with places, ports and names of this machine."""
        if value in self.elsewhere:
            return self.elsewhere[value]
        # A path stands alone, or behind the scheme of a URL: `sqlite:///var/…`, `outbox:/tmp/…`.
        paths = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
        value = re.sub(rf"(^|//|:)({paths})(?=/|$)", lambda found: f"{found[1]}{mounts[found[2]]}", value)
        if found := re.fullmatch(r"0\.0\.0\.0:(\d+)", value):
            return f"0.0.0.0:{self.ports[int(found[1])]}"
        if found := re.fullmatch(r"(https?)://([a-z0-9-]+)(?:\.default\.svc)?:(\d+)", value):
            if target := self.services.get((found[2], int(found[3]))):
                return f"{found[1]}://localhost:{self.ports[target]}"
        return value


class Started:
    """A server that runs, until it is stopped."""

    def __init__(self, kubelet, deployment, command, environment):
        self.kubelet = kubelet
        [self.container] = containers_of(deployment)
        self.log = open(kubelet.scratch / "server.log", "a", encoding="utf-8")
        self.process = subprocess.Popen(command, env=environment, cwd=kubelet.scratch, stdout=self.log, stderr=self.log)

    def __enter__(self):
        probe = self.container["startupProbe"]
        self.until("startupProbe", True, probe["periodSeconds"] * probe["failureThreshold"])
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def probe(self, name):
        """Whether a probe is content."""
        match self.container[name]:
            case {"grpc": {"port": port, **rest}}:
                with grpc.insecure_channel(f"127.0.0.1:{self.kubelet.ports[port]}") as channel:
                    request = health_pb2.HealthCheckRequest(service=rest.get("service", ""))
                    try:
                        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
                    except grpc.RpcError:
                        return False
                    return answer.status == health_pb2.HealthCheckResponse.SERVING
            case {"httpGet": {"port": port, "path": path}}:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{self.kubelet.ports[port]}{path}", timeout=5) as answer:
                        return 200 <= answer.status < 400
                except (urllib.error.URLError, OSError):
                    return False
        raise ValueError(f"{name} is of a kind that this kubelet doesn't know")

    def until(self, probe, content, limit=PATIENCE):
        """Waits for what a probe says."""
        began = time.monotonic()
        while self.probe(probe) != content:
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() - began < limit, f"{probe} is not {content} after {limit} s:\n{self.said()}"
            time.sleep(0.1)

    def stop(self, limit):
        """Stops it as Kubernetes does; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit)

    def said(self):
        return (self.kubelet.scratch / "server.log").read_text()[-5000:]


def until_it_hears(process):
    """Waits until the program that `unshare` has started does something about SIGTERM; gives its number here."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            status = pathlib.Path(f"/proc/{child}/status").read_text()
            if int(re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)[1], 16) & 1 << (signal.SIGTERM - 1):
                return int(child)
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"the program does nothing about SIGTERM: {process.communicate()[0]}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]

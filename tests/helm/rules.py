#!/usr/bin/env python3
"""Checks the chart in `helm/` without a cluster.

It lints and renders the chart with every value set of `helm/ci/`, holds each object against the schemas of several
Kubernetes versions, and then asks what no schema does: that pods have no rights, that ticks can neither pile up nor
stop for good, that a server has the time to drain, that names fit, that secrets come from secrets, that the programs know
each variable. Values that must be refused are tried as well.

    python3 tests/helm/check_chart.py --helm $(which helm)

Prints every violation, and ends with a non-zero code when there is one.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"

# Where the programs declare their variables.
SOURCES = [ROOT / "src/config.rs", *sorted(ROOT.glob("src/config/*.rs")), ROOT / "src/client/tick.rs"]

# From the chart's `kubeVersion` to the latest that kubernetes-validate knows.
KUBERNETES_VERSIONS = ["1.30", "1.31", "1.33", "1.35", "1.37"]

# The second is the longest that Helm allows.
RELEASE_NAMES = ["shop", "r" * 53]

STANDARD_LABELS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}

RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}

# What the schema of the values has to refuse, on top of ci/minimal.yaml, and a word of the message.
REFUSED_VALUES = {
    "a misspelled key": ("server: {replica: 3}", "replica"),
    "an unknown key at the top": ("replicaCount: 3", "replicaCount"),
    "no server at all": ("server: {replicas: 0}", "replicas"),
    "a zone inside the schedule": ('ticks: {hourly: {schedule: "TZ=UTC 0 * * * *"}}', "schedule"),
    "a macro as the schedule": ('ticks: {daily: {schedule: "@daily"}}', "schedule"),
    "a service open to the world": ("service: {type: LoadBalancer}", "type"),
    "a token in a URL": ('channels: {sms: {url: "twilio://AC1:token@api.twilio.com"}}', "url"),
    "a password in a URL": ('channels: {email: {url: "smtp://user:password@mail.example.com", from: a@b.example}}', "url"),
    "a login in a webhook's URL": ('channels: {interaction: {url: "https://user:password@crm.example"}}', "url"),
    "a secret where its name belongs": ("webhookSecret: {secret: whsec_x}", "webhookSecret"),
    "a webhook without a secret": ('channels: {interaction: {url: "https://crm.example"}}', "webhookSecret.existingSecret"),
    "a gateway without a secret": ('channels: {sms: {url: "gateway+https://sms.example"}}', "webhookSecret.existingSecret"),
    "mail from nobody": ('channels: {email: {url: "smtp://mail.example.com"}}', "channels.email.from is missing"),
    "a DKIM key without a selector": ("channels: {email: {dkim: {existingSecret: campaign-dkim}}}", "channels.email.dkim"),
    "a selector without a key": ("channels: {email: {dkim: {selector: campaigns}}}", "channels.email.dkim"),
    "a channel that goes nowhere": ('channels: {phone: {url: ""}}', "channels.phone has neither"),
    "a public URL without TLS": ('server: {publicUrl: "http://mail.shop.example"}', "publicUrl"),
    "hours that are none": ('channels: {sms: {hours: "8-21"}}', "hours"),
    "a rate without a time": ("channels: {email: {rate: 10}}", "rate"),
    "eleven segments": ("channels: {sms: {maxSegments: 11}}", "maxSegments"),
    "a circuit without a pause": ("circuits: {probe: 0s}", "probe"),
    "no database": ('database: {existingSecret: ""}', "database.existingSecret is missing"),
    "no secret key": ('secretKey: {existingSecret: ""}', "secretKey.existingSecret is missing"),
    "no image": ('image: {repository: ""}', "image.repository is missing"),
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--helm", default="helm", help="the helm program")
    helm = arguments.parse_args().helm

    value_sets = sorted(CHART.glob("ci/*.yaml"))
    assert value_sets, "helm/ci has no value sets"
    problems = []
    objects_seen = 0
    for values in value_sets:
        problems += lint(helm, values)
        for release in RELEASE_NAMES:
            where = f"{values.name}, release {release[:8]}"
            objects = render(helm, release, values)
            objects_seen += len(objects)
            problems += [f"{where}: {problem}" for problem in check_objects(objects)]
            print(f"rendered {where}: {len(objects)} objects")
    problems += check_refusals(helm)
    problems += check_full_is_full()

    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"{objects_seen} objects, {len(KUBERNETES_VERSIONS)} Kubernetes versions, {len(REFUSED_VALUES)} refusals, "
          f"{len(problems)} problems")
    return 1 if problems else 0


def lint(helm, values):
    result = run(helm, "lint", "--strict", "--quiet", str(CHART), "--values", str(values))
    return [] if result.returncode == 0 else [f"{values.name}: helm lint: {result.stdout}{result.stderr}"]


def render(helm, release, values):
    result = template(helm, release, values)
    if result.returncode != 0:
        sys.exit(f"helm template with {values.name} failed:\n{result.stderr}")
    return [rendered for rendered in yaml.safe_load_all(result.stdout) if rendered]


def template(helm, release, *value_files):
    # A helm that was built by `go install` believes in a Kubernetes of long ago, so it is told the version.
    arguments = ["template", release, str(CHART), "--kube-version", KUBERNETES_VERSIONS[0]]
    for values in value_files:
        arguments += ["--values", str(values)]
    return run(helm, *arguments)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_objects(objects):
    """All problems of one rendering."""
    kinds = sorted(rendered["kind"] for rendered in objects)
    if kinds != ["CronJob", "CronJob", "Deployment", "Job", "Service"]:
        yield f"unexpected objects: {kinds}"
    for rendered in objects:
        name = f"{rendered['kind']} {rendered['metadata']['name']}"
        try:
            for problem in check_object(rendered):
                yield f"{name}: {problem}"
        except (KeyError, ValueError) as error:
            yield f"{name}: not the shape that is expected: {error!r}"
    yield from check_variables(objects)
    yield from check_service_reaches_server(objects)
    yield from check_ticks_reach_service(objects)


def check_object(rendered):
    yield from check_schema(rendered)
    yield from check_labels(rendered["metadata"].get("labels", {}))
    if len(rendered["metadata"]["name"]) > (52 if rendered["kind"] == "CronJob" else 63):
        yield "name too long"
    match rendered["kind"]:
        case "Deployment":
            yield from check_pod(rendered["spec"]["template"])
            yield from check_server(rendered["spec"])
        case "Job":
            yield from check_pod(rendered["spec"]["template"])
            yield from check_migration(rendered)
        case "CronJob":
            yield from check_pod(rendered["spec"]["jobTemplate"]["spec"]["template"])
            yield from check_tick(rendered["spec"])


def check_schema(rendered):
    for version in KUBERNETES_VERSIONS:
        try:
            kubernetes_validate.validate(rendered, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(str(part) for part in error.path)}: {error.message}"


def check_labels(labels):
    """K11: the recommended labels on everything."""
    missing = STANDARD_LABELS - labels.keys()
    if missing:
        yield f"labels are missing: {sorted(missing)}"
    for key, value in labels.items():
        if not isinstance(value, str) or len(value) > 63:
            yield f"label {key} is not a string of at most 63 characters"


def check_pod(pod):
    """K6: the restricted pod security standard, and more than it asks."""
    yield from check_labels(pod["metadata"].get("labels", {}))
    spec = pod["spec"]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
        yield "the pod may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the pod has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token for the Kubernetes API"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"the pod has {key}"
    for volume in spec.get("volumes", []):
        if not (volume.keys() - {"name"}) <= RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is of a refused kind"
    for container in spec["containers"] + spec.get("initContainers", []):
        for problem in check_container(container, spec):
            yield f"container {container['name']}: {problem}"


def check_container(container, spec):
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "it may gain rights"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "it keeps capabilities"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "its root is writable"
    if not {"runAsNonRoot", "runAsUser", "seccompProfile"}.isdisjoint(security):
        yield "it overrides what the pod says"
    if {"name": "tmp", "mountPath": "/tmp"} not in container.get("volumeMounts", []):
        yield "it has no /tmp"
    if not any(volume["name"] == "tmp" and "emptyDir" in volume for volume in spec["volumes"]):
        yield "/tmp is not an emptyDir"
    if not container.get("command"):
        yield "it relies on the image's entry point"
    if "memory" not in container["resources"].get("limits", {}) or not container["resources"].get("requests"):
        yield "it has no memory limit or no requests"
    for variable in container.get("env", []):
        if is_written_out(variable["name"], str(variable.get("value", ""))):
            yield f"{variable['name']} is written out instead of taken from a secret"


def is_written_out(name, value):
    """Whether a secret stands in the value of a variable."""
    login = name.endswith("_URL") and "@" in value
    secret = name == "CAMPAIGN_DATABASE_URL" or name.endswith(("_SECRET", "_KEY", "_TOKEN", "_PASSWORD"))
    return login or (secret and value != "") or "whsec_" in value or "PRIVATE KEY" in value


def check_files(container, spec):
    """Each file that a variable names is a secret's, in a folder that is read only, and none is there that nobody reads."""
    secrets = {}
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            for item in source["secret"]["items"]:
                secrets.setdefault(volume["name"], set()).add(item["path"])
    there = {
        f"{mount['mountPath']}/{path}"
        for mount in container["volumeMounts"]
        for path in secrets.get(mount["name"], [])
        if mount.get("readOnly")
    }
    named = {variable["value"] for variable in container["env"] if variable["name"].endswith("_FILE")}
    if named != there:
        yield f"variables name the files {sorted(named)}, but there are {sorted(there)}"
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    for variable in container["env"]:
        if variable["name"].endswith("_DIR") and variable["value"] not in mounted:
            yield f"{variable['name']} is a folder that can't be written to"


def check_server(spec):
    """K7 and K8: probes, and the time to drain."""
    [container] = spec["template"]["spec"]["containers"]
    yield from check_files(container, spec["template"]["spec"])
    ports = {port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        grpc = container.get(probe, {}).get("grpc")
        if not grpc or grpc["port"] not in ports:
            yield f"{probe} doesn't ask the gRPC port"
    if not container["readinessProbe"]["grpc"].get("service"):
        yield "readiness doesn't ask for a service by name"
    if container["livenessProbe"]["grpc"].get("service"):
        yield "liveness asks what readiness asks: an outage of the database would restart all servers"
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    if len(environment) != len(container["env"]):
        yield "a variable is set twice"
    if not environment["CAMPAIGN_LISTEN"].endswith(f":{container['ports'][0]['containerPort']}"):
        yield "it listens on another port than it says"
    if environment["CAMPAIGN_INSECURE_PUBLIC"] != "true":
        yield "it would refuse to listen on the pod's address"
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = seconds(container["args"][container["args"].index("--shutdown-grace") + 1])
    if pre_stop < 5 or pre_stop + grace + 10 > spec["template"]["spec"]["terminationGracePeriodSeconds"]:
        yield "it would be killed before it has drained"
    if spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "an upgrade takes servers away before there are new ones"
    if any("version" in key or key == "helm.sh/chart" for key in spec["selector"]["matchLabels"]):
        yield "the selector would change with the version"


def check_migration(job):
    """K9: a hook that the release waits for."""
    annotations = job["metadata"]["annotations"]
    if annotations["helm.sh/hook"] != "pre-install,pre-upgrade":
        yield "it doesn't run before the release"
    if annotations["helm.sh/hook-delete-policy"] != "before-hook-creation,hook-succeeded":
        yield "it would be in its own way at the next upgrade"
    [container] = job["spec"]["template"]["spec"]["containers"]
    if container["command"] != ["campaignd", "migrate"]:
        yield "it doesn't migrate"
    yield from check_job(job["spec"])


def check_tick(spec):
    """K2, K3 and K4: ticks that neither pile up nor stop for good."""
    job = spec["jobTemplate"]["spec"]
    period = shortest_period(spec["schedule"])
    if spec["timeZone"] != "Etc/UTC" or "TZ=" in spec["schedule"]:
        yield "its schedule is not in UTC"
    if spec["concurrencyPolicy"] != "Forbid":
        yield "ticks may overlap"
    if not 60 <= spec["startingDeadlineSeconds"] < period:
        yield f"startingDeadlineSeconds {spec['startingDeadlineSeconds']} is not within its period of {period} s"
    if job["activeDeadlineSeconds"] >= period:
        yield f"activeDeadlineSeconds {job['activeDeadlineSeconds']} is not below its period of {period} s"
    if "ttlSecondsAfterFinished" not in job:
        yield "finished Jobs are kept for ever"
    yield from check_job(job)

    [container] = job["template"]["spec"]["containers"]
    deadline = seconds(container["args"][container["args"].index("--deadline") + 1])
    if deadline + 60 > job["activeDeadlineSeconds"]:
        yield "it would be killed before its own deadline"
    [wrong_use, *_] = job["podFailurePolicy"]["rules"]
    if wrong_use != {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2]},
    }:
        yield "wrong use would be tried again"


def check_job(job):
    if job.get("backoffLimit") != 2:
        yield "backoffLimit is not 2"
    if not job.get("activeDeadlineSeconds"):
        yield "it may hang for ever"
    if job["template"]["spec"]["restartPolicy"] != "Never":
        yield "its pods restart in place, which hides exit codes"


def check_variables(objects):
    """The programs know each variable, so none is misspelled."""
    declared = set()
    for source in SOURCES:
        declared.update(re.findall(r'env = "(CAMPAIGN_\w+)"', source.read_text()))
    for rendered in objects:
        for container in containers_of(rendered):
            for variable in container.get("env", []):
                if variable["name"] not in declared:
                    yield f"{variable['name']} is a variable that no program knows"


def containers_of(rendered):
    spec = rendered["spec"]
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template", {}).get("spec", {}).get("containers", [])


def check_service_reaches_server(objects):
    [service] = of_kind(objects, "Service")
    [deployment] = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    if not service["spec"]["selector"].items() <= labels.items():
        yield "the Service doesn't select the servers"
    for other in of_kind(objects, "CronJob"):
        pod = other["spec"]["jobTemplate"]["spec"]["template"]
        if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items():
            yield "the Service selects the pods of a tick"


def check_ticks_reach_service(objects):
    [service] = of_kind(objects, "Service")
    address = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    commands = []
    for tick in of_kind(objects, "CronJob"):
        [container] = tick["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        commands.append(container["command"])
        if {"name": "CAMPAIGN_SERVER", "value": address} not in container["env"]:
            yield f"{tick['metadata']['name']} calls another address than {address}"
    if sorted(commands) != [["campaign-tick", "daily"], ["campaign-tick", "hourly"]]:
        yield f"the two ticks are {commands}"


def check_refusals(helm):
    for what, (values, word) in REFUSED_VALUES.items():
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(values)
            file.flush()
            result = template(helm, "shop", CHART / "ci" / "minimal.yaml", file.name)
        if result.returncode == 0:
            yield f"values are accepted with {what}: {values}"
        elif word not in result.stderr:
            yield f"values are refused with {what}, but not for it: {result.stderr}"


def check_full_is_full():
    """ci/full.yaml has each value, other than its default, so that no template goes untried."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    full = yaml.safe_load((CHART / "ci/full.yaml").read_text())
    # A service can't be of another type, and a URL is in a secret or in the values.
    tried_elsewhere = {"service.type", *(f"channels.{channel}.url" for channel in defaults["channels"])}
    for path in set(same_leaves(defaults, full)) - tried_elsewhere:
        yield f"full.yaml: {path} is missing, or as by default"


def same_leaves(defaults, values, path=""):
    """The paths of the defaults that are missing in other values, or are the same there."""
    if not isinstance(defaults, dict) or not defaults:
        if values is None or values == defaults:
            yield path
        return
    for key, default in defaults.items():
        yield from same_leaves(default, (values or {}).get(key), f"{path}.{key}" if path else key)


def of_kind(objects, kind):
    return [rendered for rendered in objects if rendered["kind"] == kind]


def shortest_period(schedule):
    """Seconds between two starts, for the schedules that a tick has: fixed minutes or steps, every hour."""
    minute, hour, *_ = schedule.split()
    if step := re.fullmatch(r"\*/(\d+)", minute):
        assert 60 % int(step[1]) == 0, f"{schedule} doesn't divide the hour"
        return int(step[1]) * 60
    assert minute.isdigit() and hour == "*", f"not a schedule that this check understands: {schedule}"
    return 3600


def seconds(duration):
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()
    return int(number) * units[unit]


if __name__ == "__main__":
    sys.exit(main())

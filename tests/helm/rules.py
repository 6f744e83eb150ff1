"""What no schema asks of the chart's objects: that pods have no rights, that ticks can neither pile up nor stop for good, that a
server has the time to drain, that names fit, that secrets come from secrets, that the programs know each variable.

`check_objects` yields the violations. `breakages.py` has a case for each that breaks it. Numbers such as K6 are those of the
requirements for Kubernetes.
"""

import re

from chart import ROOT, component, containers_of, of_kind, pod_of, seconds, ticks_of
from rules_network import check_network

# Where the programs declare their variables.
SOURCES = [ROOT / "src/config.rs", *sorted(ROOT.glob("src/config/*.rs")), *sorted(ROOT.glob("src/client/*.rs"))]

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


def check_objects(objects, values):
    """All problems of one rendering with these values."""
    kinds = sorted(rendered["kind"] for rendered in objects)
    if kinds != expected_kinds(values):
        yield f"unexpected objects: {kinds}, not {expected_kinds(values)}"
    for rendered in objects:
        name = f"{rendered['kind']} {rendered['metadata']['name']}"
        try:
            for problem in check_object(rendered, values):
                yield f"{name}: {problem}"
        except (KeyError, ValueError, StopIteration) as error:
            yield f"{name}: not the shape that is expected: {error!r}"
    yield from check_variables(objects)
    yield from check_services(objects, values)
    yield from check_clients_reach_service(objects, values)
    yield from check_hooks_need_nothing(objects, values)
    yield from check_network(objects, values)


def expected_kinds(values):
    """K12 to K15: what there is, and when."""
    sqlite, metrics = values["sqlite"]["enabled"], values["metrics"]
    replicas = values["autoscaling"]["minReplicas"] if values["autoscaling"]["enabled"] else values["server"]["replicas"]
    asked = values["auth"]["callers"]["existingSecret"] or values["auth"]["jwt"]["issuer"]
    let_in = not asked or any(values["test"]["credentials"][of]["existingSecret"] for of in ("token", "certificate"))
    count = {
        "CronJob": 2 + values["purge"]["enabled"],
        "Deployment": 1,
        "Service": 1 + values["service"]["headless"] + values["monitor"]["enabled"],
        "Job": not sqlite,
        "ServiceAccount": values["serviceAccount"]["create"],
        "PersistentVolumeClaim": sqlite and values["sqlite"]["existingClaim"] == "",
        "HorizontalPodAutoscaler": values["autoscaling"]["enabled"],
        "PodDisruptionBudget": values["podDisruptionBudget"]["enabled"] and replicas > 1,
        "NetworkPolicy": (2 + (not sqlite) + values["purge"]["enabled"]) * values["networkPolicy"]["enabled"],
        "Pod": bool(values["test"]["enabled"] and let_in),
        "ServiceMonitor": metrics["serviceMonitor"]["enabled"] and values["operator"],
        "PrometheusRule": metrics["prometheusRule"]["enabled"] and values["operator"],
        "ConfigMap": metrics["dashboard"]["enabled"],
    }
    return sorted(kind for kind in count for _ in range(int(count[kind])))


def check_object(rendered, values):
    yield from check_labels(rendered["metadata"].get("labels", {}))
    if len(rendered["metadata"]["name"]) > (52 if rendered["kind"] == "CronJob" else 63):
        yield "name too long"
    if pod := pod_of(rendered):
        yield from check_pod(pod)
    match rendered["kind"]:
        case "Deployment":
            yield from check_server(rendered["spec"], values)
        case "Job":
            yield from check_migration(rendered)
        case "CronJob" if component(rendered) == "purge":
            yield from check_purge(rendered["spec"], values)
        case "CronJob":
            yield from check_tick(rendered["spec"], values["ticks"]["partitions"])
        case "Pod":
            yield from check_test(rendered)
        case "PodDisruptionBudget":
            most = values["podDisruptionBudget"]["maxUnavailable"]
            if rendered["spec"].get("maxUnavailable") != most or rendered["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
                yield "it would hold up the drain of a node"
        case "PersistentVolumeClaim":
            if rendered["metadata"]["annotations"].get("helm.sh/resource-policy") != "keep":
                yield "uninstalling the release would delete the customers"
        case "PrometheusRule":
            yield from check_alerts(rendered["spec"], values)
        case "HorizontalPodAutoscaler":
            yield from check_autoscaler(rendered["spec"], values)


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
    names = [variable["name"] for variable in container.get("env", [])]
    if len(set(names)) != len(names):
        yield "a variable is set twice"
    for variable in container.get("env", []):
        if is_written_out(variable["name"], str(variable.get("value", ""))):
            yield f"{variable['name']} is written out instead of taken from a secret"
    yield from check_files(container, spec)


def is_written_out(name, value):
    """Whether a secret stands in the value of a variable."""
    login = name.endswith("_URL") and "@" in value
    secret = (name == "CAMPAIGN_DATABASE_URL" and not value.startswith("sqlite:")) or name.endswith(
        ("_SECRET", "_KEY", "_TOKEN", "_PASSWORD"))
    return login or (secret and value not in ("", "true", "false")) or "whsec_" in value or "PRIVATE KEY" in value


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
    variables = container.get("env", [])
    files = {variable["value"] for variable in variables if variable["name"].endswith("_FILE")}
    if files != there:
        yield f"variables name the files {sorted(files)}, but there are {sorted(there)}"
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    places = {variable["name"]: variable["value"] for variable in variables if variable["name"].endswith("_DIR")}
    for variable in variables:
        if found := re.fullmatch(r"(?:sqlite://|outbox:)(/.*)", str(variable.get("value", ""))):
            places[variable["name"]] = found[1]
    for name, place in places.items():
        if not any(place == folder or place.startswith(f"{folder}/") for folder in writable):
            yield f"{name} is a place that can't be written to"


def check_server(spec, values):
    """K7, K8 and K12: probes, the time to drain, how it is replaced."""
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    if environment["CAMPAIGN_LISTEN"] != f"0.0.0.0:{ports['grpc']}":
        yield "it listens on another port than it says"
    yield from check_probes(container, ports, environment)
    if ("CAMPAIGN_INSECURE_PUBLIC" in environment) != values["server"]["insecurePublic"]:
        yield "it is open to all, or refuses to come up, against what the values say"
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = seconds(container["args"][container["args"].index("--shutdown-grace") + 1])
    if pre_stop < 5 or pre_stop + grace + 10 > pod["terminationGracePeriodSeconds"]:
        yield "it would be killed before it has drained"
    if any("version" in key or key == "helm.sh/chart" for key in spec["selector"]["matchLabels"]):
        yield "the selector would change with the version"
    if ("replicas" in spec) == values["autoscaling"]["enabled"]:
        yield "its number and its autoscaler would fight"
    if values["sqlite"]["enabled"]:
        if spec["strategy"] != {"type": "Recreate"} or spec.get("replicas") != 1:
            yield "two servers would have the file at a time"
        if not any("persistentVolumeClaim" in volume for volume in pod["volumes"] if volume["name"] == "database"):
            yield "its database goes with the pod"
    elif spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "an upgrade takes servers away before there are new ones"


def check_probes(container, ports, environment):
    if "monitor" not in ports:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if container.get(probe, {}).get("grpc", {}).get("port") != ports["grpc"]:
                yield f"{probe} doesn't ask the gRPC port"
        if not container["readinessProbe"]["grpc"].get("service"):
            yield "readiness doesn't ask for a service by name"
        if container["livenessProbe"]["grpc"].get("service"):
            yield "liveness asks what readiness asks: an outage of the database would restart all servers"
        if "CAMPAIGN_TLS_CERT_FILE" in environment:
            yield "Kubernetes' probes of gRPC know no TLS"
        return
    if environment["CAMPAIGN_MONITOR_LISTEN"] != f"0.0.0.0:{ports['monitor']}":
        yield "the monitor listens on another port than it says"
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        if container[probe].get("httpGet") != {"path": path, "port": "monitor"}:
            yield f"{probe} doesn't ask the monitor for {path}"


def check_autoscaler(spec, values):
    if spec["minReplicas"] > spec["maxReplicas"]:
        yield "it has no room"
    kinds = [metric["type"] for metric in spec["metrics"]]
    if kinds != ["Resource"] + ["External"] * values["autoscaling"]["backlog"]["enabled"]:
        yield f"it goes by {kinds}"


def check_alerts(spec, values):
    """K5: a tick that was missed is noticed, and not one that is on its way; links lead to where the page is."""
    alerts = {rule["alert"]: rule for group in spec["groups"] for rule in group["rules"]}
    for kind in ("hourly", "daily"):
        age = int(re.search(r"> (\d+)$", alerts[f"Campaign{kind.title()}TickMissed"]["expr"])[1])
        period = shortest_period(values["ticks"][kind]["schedule"])
        if age < 2 * period:
            yield f"an age of {age} s alarms although the {kind} tick comes every {period} s"
    for name, rule in alerts.items():
        link = f"{values['metrics']['prometheusRule']['runbookUrl']}#{name.lower()}"
        if rule["annotations"]["runbook_url"] != link:
            yield f"{name} leads to {rule['annotations']['runbook_url']}, not {link}"


def check_migration(job):
    """K9: a hook that the release waits for."""
    annotations = job["metadata"]["annotations"]
    if annotations["helm.sh/hook"] != "pre-install,pre-upgrade":
        yield "it doesn't run before the release"
    if annotations["helm.sh/hook-weight"] != "-5":
        yield "it doesn't run before other hooks"
    if annotations["helm.sh/hook-delete-policy"] != "before-hook-creation,hook-succeeded":
        yield "it would be in its own way at the next upgrade"
    [container] = job["spec"]["template"]["spec"]["containers"]
    if container["command"] != ["campaignd", "migrate"]:
        yield "it doesn't migrate"
    yield from check_job(job["spec"], 1)


def check_tick(spec, partitions):
    """K2, K3 and K4: ticks that neither pile up nor stop for good."""
    job = spec["jobTemplate"]["spec"]
    period = shortest_period(spec["schedule"])
    yield from check_schedule(spec)
    if not 60 <= spec.get("startingDeadlineSeconds", 0) < period:
        yield f"startingDeadlineSeconds {spec.get('startingDeadlineSeconds')} is not within its period of {period} s"
    if job["activeDeadlineSeconds"] >= period:
        yield f"activeDeadlineSeconds {job['activeDeadlineSeconds']} is not below its period of {period} s"
    if "ttlSecondsAfterFinished" not in job:
        yield "finished Jobs are kept for ever"
    yield from check_job(job, partitions)

    [container] = job["template"]["spec"]["containers"]
    deadline = seconds(container["args"][container["args"].index("--deadline") + 1])
    if deadline + 60 > job["activeDeadlineSeconds"]:
        yield "it would be killed before its own deadline"
    yield from check_partitions(job, container, partitions)


def check_purge(spec, values):
    """It takes away what the values say, and does not stop for good."""
    job = spec["jobTemplate"]["spec"]
    yield from check_schedule(spec)
    if spec.get("startingDeadlineSeconds", 0) < 60:
        yield f"startingDeadlineSeconds {spec.get('startingDeadlineSeconds')} lets it stop for good, or never start"
    if not {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= spec.keys():
        yield "nobody says how many Jobs are kept"
    yield from check_job(job, 1)
    [container] = job["template"]["spec"]["containers"]
    if container["command"] != ["campaignd", "purge"] or container["args"] != ["--older-than", values["purge"]["olderThan"]]:
        yield f"it takes away something else than what is older than {values['purge']['olderThan']}"
    if job["activeDeadlineSeconds"] != values["purge"]["activeDeadlineSeconds"]:
        yield "it ends at another time than the values say"


def check_schedule(spec):
    """One at a time, in UTC, and set up wrong it fails at once."""
    if spec["timeZone"] != "Etc/UTC" or "TZ=" in spec["schedule"]:
        yield "its schedule is not in UTC"
    if spec["concurrencyPolicy"] != "Forbid":
        yield "two may overlap"
    job = spec["jobTemplate"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    [wrong_use, *_] = job["podFailurePolicy"]["rules"]
    if wrong_use != {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2]},
    }:
        yield "wrong use would be tried again"


def check_partitions(job, container, partitions):
    """Each part of the customers has a pod that knows which it is."""
    said = container["args"][container["args"].index("--partition") + 1] if "--partition" in container["args"] else None
    if partitions == 1:
        if said or job.get("completionMode", "NonIndexed") != "NonIndexed":
            yield "it serves a part of the customers, and nobody the rest"
        return
    if (job.get("completionMode"), job.get("completions"), job.get("parallelism")) != ("Indexed", partitions, partitions):
        yield "there is not one pod for each part of the customers"
    if said != f"$(JOB_COMPLETION_INDEX)/{partitions}":
        yield f"its part is {said}"
    index = [variable for variable in container["env"] if variable["name"] == "JOB_COMPLETION_INDEX"]
    path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    if [variable.get("valueFrom") for variable in index] != [{"fieldRef": {"fieldPath": path}}]:
        yield "it doesn't know its index"


def check_job(job, partitions):
    if job.get("backoffLimit" if partitions == 1 else "backoffLimitPerIndex") != 2:
        yield "backoffLimit is not 2"
    if not job.get("activeDeadlineSeconds"):
        yield "it may hang for ever"
    if job["template"]["spec"]["restartPolicy"] != "Never":
        yield "its pods restart in place, which hides exit codes"


def check_test(pod):
    """K15: a pod that asks for health, and for somebody who is not there."""
    annotations = pod["metadata"]["annotations"]
    if annotations["helm.sh/hook"] != "test" or "before-hook-creation" not in annotations["helm.sh/hook-delete-policy"]:
        yield "it is no test, or one that runs once only"
    [container] = pod["spec"]["containers"]
    if container["command"] != ["campaignctl", "check"] or container.get("args"):
        yield "it doesn't check"
    if pod["spec"]["restartPolicy"] != "Never" or not pod["spec"].get("activeDeadlineSeconds"):
        yield "it never fails"


def declared_variables():
    """The variables that the programs know."""
    declared = {"JOB_COMPLETION_INDEX"}
    for source in SOURCES:
        declared.update(re.findall(r'env = "(\w+)"', source.read_text()))
    return declared


def check_variables(objects):
    """The programs know each variable, so none is misspelled."""
    declared = declared_variables()
    for rendered in objects:
        for container in containers_of(rendered):
            for variable in container.get("env", []):
                if variable["name"] not in declared:
                    yield f"{variable['name']} is a variable that no program knows"


def check_services(objects, values):
    """Services select the servers and nothing else; the monitor's port is on none that others use."""
    [deployment] = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for service in of_kind(objects, "Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        if not spec["selector"].items() <= labels.items():
            yield f"{name} doesn't select the servers"
        for other in [*of_kind(objects, "CronJob"), *of_kind(objects, "Job"), *of_kind(objects, "Pod")]:
            if spec["selector"].items() <= pod_of(other)["metadata"]["labels"].items():
                yield f"{name} selects the pods of {other['metadata']['name']}"
        target = "monitor" if name.endswith("-monitor") else "grpc"
        if [port["targetPort"] for port in spec["ports"]] != [target]:
            yield f"{name} leads to other ports than {target}"
        if name.endswith(("-monitor", "-headless")) != (spec.get("clusterIP") == "None"):
            yield f"{name} hides which server answers, or shows it where it should not"
        if (target == "monitor") != spec.get("publishNotReadyAddresses", False):
            yield f"{name} shows servers that are not ready to callers, or hides them from scrapers"
    for monitor in of_kind(objects, "ServiceMonitor"):
        selected = monitor["spec"]["selector"]["matchLabels"]
        chosen = [service for service in of_kind(objects, "Service") if selected.items() <= service["metadata"]["labels"].items()]
        ports = [port["name"] for service in chosen for port in service["spec"]["ports"]]
        if ports != [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]]:
            yield f"the ServiceMonitor leads to the ports {ports}"


def check_clients_reach_service(objects, values):
    """Ticks and test call the Service, as it listens."""
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind(objects, "Service")}
    [name] = [name for name in services if not name.endswith(("-monitor", "-headless"))]
    port = services[name]["ports"][0]["port"]
    tls = values["tls"]["existingSecret"]
    address = f"https://{name}.default.svc:{port}" if tls else f"http://{name}:{port}"
    commands = []
    for client in [*ticks_of(objects), *of_kind(objects, "Pod")]:
        [container] = containers_of(client)
        commands.append(container["command"])
        if {"name": "CAMPAIGN_SERVER", "value": address} not in container["env"]:
            yield f"{client['metadata']['name']} calls another address than {address}"
    if sorted(command for command in commands if command[0] == "campaign-tick") != [
        ["campaign-tick", "daily"], ["campaign-tick", "hourly"],
    ]:
        yield f"the two ticks are {commands}"


def check_hooks_need_nothing(objects, values):
    """K9: what runs before the release needs nothing that the release makes."""
    made = {(rendered["kind"], rendered["metadata"]["name"]) for rendered in objects if component(rendered) != "migration"}
    for job in of_kind(objects, "Job"):
        account = job["spec"]["template"]["spec"]["serviceAccountName"]
        if ("ServiceAccount", account) in made:
            yield f"the migration runs as {account}, who is not there yet"
    [deployment] = of_kind(objects, "Deployment")
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    if values["serviceAccount"]["create"] and ("ServiceAccount", account) not in made:
        yield f"the servers run as {account}, whom nobody makes"


def shortest_period(schedule):
    """Seconds between two starts, for the schedules that a tick has: fixed minutes or steps, every hour."""
    minute, hour, *_ = schedule.split()
    if step := re.fullmatch(r"\*/(\d+)", minute):
        if 60 % int(step[1]) != 0:
            raise ValueError(f"{schedule} doesn't divide the hour")
        return int(step[1]) * 60
    if not (minute.isdigit() and hour == "*"):
        raise ValueError(f"not a schedule that this check understands: {schedule}")
    return 3600

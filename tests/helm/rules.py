"""What no schema asks of the chart's objects: that pods have no rights, that ticks can neither pile up nor stop for good, that a
server has the time to drain, that names fit, that secrets come from secrets, that the programs know each variable.

`check_objects` yields the violations. `breakages.py` has a case for each that breaks it. Numbers such as K6 are those of the
requirements for Kubernetes.
"""

import re

from chart import ROOT, component, containers_of, of_kind, pod_of, seconds, ticks_of
from rules_jobs import check_migration, check_purge, check_tick, shortest_period, url_secret
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
            yield from check_migration(rendered, values)
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
    if not values["sqlite"]["enabled"] and url_secret(container) != values["database"]["existingSecret"]:
        yield f"it works by the URL of {url_secret(container)}"
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
        if "topologySpreadConstraints" in pod:
            yield "its one server is spread"
        return
    if spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "an upgrade takes servers away before there are new ones"
    yield from check_spread(pod["topologySpreadConstraints"], spec["selector"])


def check_spread(constraints, selector):
    """K14: one zone or node that fails takes few servers, and a cluster with one of them has all of them all the same."""
    if [constraint["topologyKey"] for constraint in constraints] != ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]:
        yield "servers are not spread over zones and nodes"
    for constraint in constraints:
        if constraint["maxSkew"] != 1 or constraint["whenUnsatisfiable"] != "ScheduleAnyway":
            yield f"servers may crowd, or wait for ever, by {constraint['topologyKey']}"
        # Those of the release before are replaced, and don't count.
        if constraint["labelSelector"] != selector or constraint.get("matchLabelKeys") != ["pod-template-hash"]:
            yield f"others than its servers are counted by {constraint['topologyKey']}"


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
    wanted, backlog = values["autoscaling"], values["autoscaling"]["backlog"]
    kinds = [metric["type"] for metric in spec["metrics"]]
    if kinds != ["Resource"] + ["External"] * backlog["enabled"]:
        yield f"it goes by {kinds}"
        return
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": wanted["targetCPUUtilizationPercentage"]}}
    if spec["metrics"][0]["resource"] != cpu:
        yield "it goes by another CPU than the values say"
    for metric in spec["metrics"][1:]:
        external = metric["external"]
        # All servers say the same number: it is divided among them, and not summed.
        if external["target"] != {"type": "AverageValue", "averageValue": backlog["perReplica"]}:
            yield "one server is for another backlog than the values say"
        if external["metric"]["name"] != backlog["metric"] or external["metric"].get("selector", {}).get("matchLabels", {}) != backlog["matchLabels"]:
            yield "it goes by the backlog of somebody else"
    # A tick and the next one, a quarter of an hour later, need the same servers.
    if spec.get("behavior", {}).get("scaleDown", {}).get("stabilizationWindowSeconds", 0) < 900:
        yield "servers go after a tick and are missing at the next"


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
        # By it proxies and meshes know that it is HTTP/2 without TLS; behind TLS they are told by ALPN.
        protocol = "http" if target == "monitor" else None if values["tls"]["existingSecret"] else "kubernetes.io/h2c"
        if [port.get("appProtocol") for port in spec["ports"]] != [protocol]:
            yield f"{name} is said to speak something else than {protocol}"
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

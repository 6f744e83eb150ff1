"""Cases in which the chart's objects are broken on purpose, to see that `rules.py` notices.

A case is a value set, what is done to its objects, and a word of the problem that has to come of it.
"""

import copy

from chart import CHART, named, of_kind, render, values_of
from rules import check_objects


def server(objects):
    return of_kind(objects, "Deployment")[0]["spec"]


def container(objects):
    return server(objects)["template"]["spec"]["containers"][0]


def tick(objects):
    return named(objects, "CronJob", "-hourly")["spec"]


def tick_job(objects):
    return tick(objects)["jobTemplate"]["spec"]


def tick_pod(objects):
    return tick_job(objects)["template"]["spec"]


def purge(objects):
    return named(objects, "CronJob", "-purge")["spec"]


def purge_job(objects):
    return purge(objects)["jobTemplate"]["spec"]


def purge_container(objects):
    return purge_job(objects)["template"]["spec"]["containers"][0]


def purge_policy(objects):
    return named(objects, "NetworkPolicy", "-purge")["spec"]


def job(objects):
    return of_kind(objects, "Job")[0]


def migrate_container(objects):
    return job(objects)["spec"]["template"]["spec"]["containers"][0]


def scaler(objects):
    return of_kind(objects, "HorizontalPodAutoscaler")[0]["spec"]


def spread(objects):
    return server(objects)["template"]["spec"]["topologySpreadConstraints"]


def test(objects):
    return of_kind(objects, "Pod")[0]


def service(objects, ending=""):
    return named(objects, "Service", f"campaign-automation{ending}")["spec"]


def policy(objects, ending=""):
    return named(objects, "NetworkPolicy", f"campaign-automation{ending}")["spec"]


def alert(objects):
    return of_kind(objects, "PrometheusRule")[0]["spec"]["groups"][0]["rules"][0]


def put(value, *path):
    """A change that puts a value at the end of a path of keys, the first of which leads into the objects."""
    def change(objects):
        start, *keys, last = path
        inside = start(objects)
        for key in keys:
            inside = inside[key]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    return change


def without_variable(name):
    def change(objects):
        container(objects)["env"] = [variable for variable in container(objects)["env"] if variable["name"] != name]
    return change


def with_variable(name, value):
    def change(objects):
        without_variable(name)(objects)
        container(objects)["env"].append({"name": name, "value": value})
    return change


def without(kind):
    def change(objects):
        objects.remove(of_kind(objects, kind)[0])
    return change


ROOTLESS = "securityContext"

BREAKAGES = [
    # K2, K3, K4
    ("minimal", put("Allow", tick, "concurrencyPolicy"), "two may overlap"),
    ("minimal", put(None, tick, "startingDeadlineSeconds"), "startingDeadlineSeconds"),
    ("minimal", put(900, tick, "startingDeadlineSeconds"), "is not within its period"),
    ("minimal", put("Europe/Berlin", tick, "timeZone"), "not in UTC"),
    ("minimal", put(900, tick_job, "activeDeadlineSeconds"), "is not below its period"),
    ("minimal", put(730, tick_job, "activeDeadlineSeconds"), "killed before its own deadline"),
    ("minimal", put(None, tick_job, "ttlSecondsAfterFinished"), "kept for ever"),
    ("minimal", put(6, tick_job, "backoffLimit"), "backoffLimit"),
    ("minimal", put("OnFailure", tick_pod, "restartPolicy"), "restart in place"),
    ("minimal", put([75], tick_job, "podFailurePolicy", "rules", 0, "onExitCodes", "values"), "wrong use"),
    ("minimal", put("a" * 41 + "-tick-hourly", lambda objects: named(objects, "CronJob", "-hourly"), "metadata", "name"), "name too long"),
    ("minimal", put(["--deadline", "720s", "--partition", "0/2"], tick_pod, "containers", 0, "args"), "nobody the rest"),
    ("partitions", put(3, tick_job, "completions"), "not one pod for each part"),
    ("partitions", put(1, tick_job, "parallelism"), "not one pod for each part"),
    ("partitions", put(["--deadline", "720s"], tick_pod, "containers", 0, "args"), "its part is None"),
    ("partitions", put([], tick_pod, "containers", 0, "env"), "doesn't know its index"),
    # The purge
    ("full", put("Replace", purge, "concurrencyPolicy"), "two may overlap"),
    ("full", put("Europe/Berlin", purge, "timeZone"), "not in UTC"),
    ("full", put(None, purge, "startingDeadlineSeconds"), "stop for good"),
    ("full", put(None, purge, "failedJobsHistoryLimit"), "how many Jobs are kept"),
    ("full", put(["campaignd", "migrate"], purge_container, "command"), "takes away something else"),
    ("full", put(["--older-than", "30d"], purge_container, "args"), "takes away something else"),
    ("full", put(60, purge_job, "activeDeadlineSeconds"), "at another time"),
    ("full", put(6, purge_job, "backoffLimit"), "backoffLimit"),
    ("full", put("OnFailure", purge_job, "template", "spec", "restartPolicy"), "restart in place"),
    ("full", put("tick", purge_job, "podFailurePolicy", "rules", 0, "onExitCodes", "containerName"), "wrong use"),
    ("full", put(True, purge_container, ROOTLESS, "allowPrivilegeEscalation"), "may gain rights"),
    ("full", put({"name": "CAMPAIGN_DATABASE_URL", "value": "postgres://u:p@h/n"}, purge_container, "env", 0), "is written out"),
    ("full", put("c" * 50 + "-purge", lambda objects: named(objects, "CronJob", "-purge"), "metadata", "name"), "name too long"),
    ("full", lambda objects: objects.remove(named(objects, "CronJob", "-purge")), "unexpected objects"),
    ("full", put([], purge_policy, "egress"), "purge can't reach the database"),
    ("full", put([{}], purge_policy, "egress"), "purge can reach more than the database"),
    ("full", put([{}], purge_policy, "ingress"), "purge can be reached"),
    ("full", put({"matchLabels": {"x": "y"}}, purge_policy, "podSelector"), "no policy closes its pods"),
    # K6
    ("minimal", put(False, server, "template", "spec", ROOTLESS, "runAsNonRoot"), "may run as root"),
    ("minimal", put(0, tick_pod, ROOTLESS, "runAsUser"), "may run as root"),
    ("minimal", put(None, test, "spec", ROOTLESS, "seccompProfile"), "no seccomp profile"),
    ("minimal", put(True, job, "spec", "template", "spec", "automountServiceAccountToken"), "a token for the Kubernetes API"),
    ("minimal", put(True, server, "template", "spec", "hostNetwork"), "hostNetwork"),
    ("minimal", put({"name": "tmp", "hostPath": {"path": "/tmp"}}, server, "template", "spec", "volumes", 0), "refused kind"),
    ("minimal", put(True, container, ROOTLESS, "allowPrivilegeEscalation"), "may gain rights"),
    ("minimal", put(None, container, ROOTLESS, "capabilities"), "keeps capabilities"),
    ("minimal", put(False, container, ROOTLESS, "readOnlyRootFilesystem"), "its root is writable"),
    ("minimal", put(0, container, ROOTLESS, "runAsUser"), "overrides what the pod says"),
    ("minimal", put(None, container, "resources", "limits"), "no memory limit"),
    ("minimal", put(None, container, "command"), "the image's entry point"),
    # Secrets
    ("minimal", with_variable("CAMPAIGN_DATABASE_URL", "postgres://u:p@h/n"), "CAMPAIGN_DATABASE_URL is written out"),
    ("minimal", with_variable("CAMPAIGN_WEBHOOK_SECRET", "whsec_x"), "CAMPAIGN_WEBHOOK_SECRET is written out"),
    ("minimal", with_variable("CAMPAIGN_EMAIL_URL", "smtp://u:p@h"), "CAMPAIGN_EMAIL_URL is written out"),
    ("minimal", with_variable("CAMPAIGN_DKIM_KEY_FILE", "/etc/campaign/dkim.pem"), "variables name the files"),
    ("minimal", without_variable("CAMPAIGN_SECRET_KEY_FILE"), "variables name the files"),
    ("minimal", with_variable("CAMPAIGN_EMAIL_URL", "outbox:/var/mails"), "CAMPAIGN_EMAIL_URL is a place that can't be written to"),
    ("sqlite", with_variable("CAMPAIGN_DATABASE_URL", "sqlite:///data/campaign.db"), "CAMPAIGN_DATABASE_URL is a place"),
    ("minimal", with_variable("CAMPAIGN_LISTN", "x"), "CAMPAIGN_LISTN is a variable that no program knows"),
    # K7, K8
    ("plain", put({"port": 50051}, container, "readinessProbe", "grpc"), "readiness doesn't ask for a service"),
    ("plain", put({"port": 50051, "service": "x"}, container, "livenessProbe", "grpc"), "liveness asks what readiness asks"),
    ("plain", put({"port": 50052}, container, "startupProbe", "grpc"), "startupProbe doesn't ask the gRPC port"),
    ("minimal", put({"path": "/readyz", "port": "monitor"}, container, "livenessProbe", "httpGet"), "livenessProbe doesn't ask the monitor"),
    ("minimal", put({"path": "/readyz", "port": "grpc"}, container, "readinessProbe", "httpGet"), "readinessProbe doesn't ask the monitor"),
    ("minimal", with_variable("CAMPAIGN_MONITOR_LISTEN", "0.0.0.0:1"), "the monitor listens on another port"),
    ("minimal", with_variable("CAMPAIGN_LISTEN", "0.0.0.0:1"), "listens on another port than it says"),
    ("minimal", without_variable("CAMPAIGN_INSECURE_PUBLIC"), "against what the values say"),
    ("access", with_variable("CAMPAIGN_INSECURE_PUBLIC", "true"), "against what the values say"),
    ("minimal", put(1, container, "lifecycle", "preStop", "sleep", "seconds"), "killed before it has drained"),
    ("minimal", put(30, server, "template", "spec", "terminationGracePeriodSeconds"), "killed before it has drained"),
    ("minimal", put(1, server, "strategy", "rollingUpdate", "maxUnavailable"), "takes servers away"),
    ("sqlite", put({"rollingUpdate": {"maxUnavailable": 0}}, server, "strategy"), "two servers would have the file"),
    ("sqlite", put({"name": "database", "emptyDir": {}}, server, "template", "spec", "volumes", 1), "goes with the pod"),
    ("sqlite", put("delete", lambda objects: of_kind(objects, "PersistentVolumeClaim")[0], "metadata", "annotations", "helm.sh/resource-policy"),
     "would delete the customers"),
    ("full", put("somebody", container, "env", 0, "valueFrom", "secretKeyRef", "name"), "it works by the URL of somebody"),
    ("full", put("somebody", purge_container, "env", 0, "valueFrom", "secretKeyRef", "name"), "it works by the URL of somebody"),
    # K9, K15
    ("full", put("campaign-database", migrate_container, "env", 0, "valueFrom", "secretKeyRef", "name"), "it migrates by the URL of"),
    ("minimal", put("somebody", migrate_container, "env", 0, "valueFrom", "secretKeyRef", "name"), "it migrates by the URL of"),
    ("full", put([], migrate_container, "args"), "it distributes with"),
    ("minimal", put(["--distribute"], migrate_container, "args"), "it distributes with"),
    ("minimal", put([75], job, "spec", "podFailurePolicy", "rules", 0, "onExitCodes", "values"), "wrong use"),
    ("minimal", put("Count", job, "spec", "podFailurePolicy", "rules", 1, "action"), "takes one of its tries"),
    ("minimal", put("post-install", job, "metadata", "annotations", "helm.sh/hook"), "doesn't run before the release"),
    ("minimal", put("hook-failed", job, "metadata", "annotations", "helm.sh/hook-delete-policy"), "in its own way"),
    ("minimal", put(["campaignd"], job, "spec", "template", "spec", "containers", 0, "command"), "doesn't migrate"),
    ("minimal", put("shop-campaign-automation", job, "spec", "template", "spec", "serviceAccountName"), "who is not there yet"),
    ("minimal", put("other", server, "template", "spec", "serviceAccountName"), "whom nobody makes"),
    ("minimal", put(["campaignctl", "sending"], test, "spec", "containers", 0, "command"), "it doesn't check"),
    ("minimal", put("pre-install", test, "metadata", "annotations", "helm.sh/hook"), "it is no test"),
    ("minimal", put("OnFailure", test, "spec", "restartPolicy"), "it never fails"),
    # K11, K12, K14
    ("minimal", put(None, lambda objects: of_kind(objects, "Service")[0], "metadata", "labels", "app.kubernetes.io/version"), "labels are missing"),
    ("minimal", put("1.2.3", server, "selector", "matchLabels", "app.kubernetes.io/version"), "change with the version"),
    ("minimal", put("50%", lambda objects: of_kind(objects, "PodDisruptionBudget")[0], "spec", "maxUnavailable"), "hold up the drain"),
    ("minimal", without("PodDisruptionBudget"), "unexpected objects"),
    ("autoscaled", put(3, server, "replicas"), "would fight"),
    ("autoscaled", put(1, scaler, "maxReplicas"), "no room"),
    ("autoscaled", put("Pods", scaler, "metrics", 0, "type"), "it goes by"),
    ("autoscaled", put(10, scaler, "metrics", 0, "resource", "target", "averageUtilization"), "another CPU"),
    ("autoscaled", put("Value", scaler, "metrics", 1, "external", "target", "type"), "another backlog"),
    ("autoscaled", put({}, scaler, "metrics", 1, "external", "metric", "selector", "matchLabels"), "the backlog of somebody else"),
    ("autoscaled", put(None, scaler, "behavior"), "missing at the next"),
    ("full", put(600, scaler, "behavior", "scaleDown", "stabilizationWindowSeconds"), "missing at the next"),
    ("minimal", put([], server, "template", "spec", "topologySpreadConstraints"), "not spread"),
    ("minimal", put("DoNotSchedule", spread, 0, "whenUnsatisfiable"), "crowd, or wait for ever"),
    ("minimal", put({"matchLabels": {}}, spread, 1, "labelSelector"), "others than its servers"),
    ("minimal", put(None, spread, 1, "matchLabelKeys"), "others than its servers"),
    ("sqlite", put([], server, "template", "spec", "topologySpreadConstraints"), "its one server is spread"),
    ("minimal", put(None, service, "ports", 0, "appProtocol"), "something else than kubernetes.io/h2c"),
    ("closed", put("kubernetes.io/h2c", service, "ports", 0, "appProtocol"), "something else than None"),
    ("minimal", put("grpc", lambda objects: service(objects, "-monitor"), "ports", 0, "appProtocol"), "something else than http"),
    ("minimal", put({"app.kubernetes.io/name": "campaign-automation"}, service, "selector"), "selects the pods of"),
    ("minimal", put({"app": "x"}, service, "selector"), "doesn't select the servers"),
    ("minimal", put(True, lambda objects: service(objects, "-headless"), "publishNotReadyAddresses"), "not ready to callers"),
    ("minimal", put("10.0.0.1", lambda objects: service(objects, "-headless"), "clusterIP"), "hides which server answers"),
    ("minimal", put("monitor", service, "ports", 0, "targetPort"), "leads to other ports"),
    ("minimal", put(1, service, "ports", 0, "port"), "calls another address"),
    ("full", put("grpc", lambda objects: of_kind(objects, "ServiceMonitor")[0], "spec", "endpoints", 0, "port"), "the ServiceMonitor leads"),
    # K5
    ("full", put("time() - x > 900", alert, "expr"), "alarms although the hourly tick comes"),
    ("full", put("OPERATIONS.md#other", alert, "annotations", "runbook_url"), "CampaignHourlyTickMissed leads to"),
    # K13
    ("minimal", put(["Ingress"], policy, "policyTypes"), "leaves a direction open"),
    ("minimal", put([], policy, "ingress"), "can't reach the servers"),
    ("minimal", put([{}], lambda objects: policy(objects, "-clients"), "egress"), "reach more than the servers"),
    ("minimal", put([], lambda objects: policy(objects, "-clients"), "egress"), "can't reach the servers"),
    ("minimal", put([], lambda objects: policy(objects, "-migrate"), "egress"), "migration can't reach the database"),
    ("minimal", put({"matchLabels": {"x": "y"}}, lambda objects: policy(objects, "-migrate"), "podSelector"), "no policy closes its pods"),
    ("minimal", put([], policy, "egress", 2, "to", 0, "ipBlock", "except"), "a cloud's metadata"),
    ("minimal", put(["169.254.0.0/16"], policy, "egress", 2, "to", 0, "ipBlock", "except"), "the servers reach private addresses"),
    ("minimal", put([{"port": 443}], policy, "egress", 2, "ports"), "can't reach providers on port 587"),
    ("minimal", put([{"port": 5432}], policy, "egress", 0, "ports"), "can't ask for names"),
]


def check_breakages(helm):
    """Every case is noticed, by the problem that it stands for."""
    rendered = {}
    for name, change, word in BREAKAGES:
        value_set = CHART / f"ci/{name}.yaml"
        if name not in rendered:
            rendered[name] = render(helm, "shop", value_set)
        objects = copy.deepcopy(rendered[name])
        change(objects)
        problems = list(check_objects(objects, {**values_of(value_set), "operator": True}))
        if not any(word in problem for problem in problems):
            yield f"ci/{name}.yaml, broken so that {word!r} should be said, leads to: {problems}"

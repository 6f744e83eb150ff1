"""K2, K3, K4 and K9: ticks that neither pile up nor stop for good, a migration that the release waits for, a purge."""

import re

from chart import seconds


def check_migration(job, values):
    """K9: a hook that the release waits for, by the role that may change the schema, where it is another."""
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
    if container.get("args", []) != ["--distribute"] * values["migration"]["distribute"]:
        yield f"it distributes with {container.get('args')}, where the values say {values['migration']['distribute']}"
    secret = values["migration"]["database"]["existingSecret"] or values["database"]["existingSecret"]
    if url_secret(container) != secret:
        yield f"it migrates by the URL of {url_secret(container)}, not {secret}"
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
    if url_secret(container) != values["database"]["existingSecret"]:
        yield f"it works by the URL of {url_secret(container)}"
    if job["activeDeadlineSeconds"] != values["purge"]["activeDeadlineSeconds"]:
        yield "it ends at another time than the values say"


def check_schedule(spec):
    """One at a time, in UTC."""
    if spec["timeZone"] != "Etc/UTC" or "TZ=" in spec["schedule"]:
        yield "its schedule is not in UTC"
    if spec["concurrencyPolicy"] != "Forbid":
        yield "two may overlap"


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
    [container] = job["template"]["spec"]["containers"]
    wrong_use, moved = job["podFailurePolicy"]["rules"]
    if wrong_use != {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2]},
    }:
        yield "wrong use would be tried again"
    if moved != {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}:
        yield "a node that is drained takes one of its tries"


def url_secret(container):
    """The secret that has the URL of a container's database."""
    [url] = [variable for variable in container["env"] if variable["name"] == "CAMPAIGN_DATABASE_URL"]
    return url["valueFrom"]["secretKeyRef"]["name"]


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

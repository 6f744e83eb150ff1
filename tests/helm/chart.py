"""The chart in `helm/`, rendered, and what is asked of its objects again and again."""

import functools
import pathlib
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"
VALUE_SETS = sorted(CHART.glob("ci/*.yaml"))

# From the chart's `kubeVersion` to the latest that kubernetes-validate knows.
KUBERNETES_VERSIONS = ["1.30", "1.31", "1.33", "1.35", "1.37"]

# What a cluster with the Prometheus operator has.
OPERATOR = "monitoring.coreos.com/v1"


def run(*command, **settings):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **settings)


def template(helm, release, *value_files, operator=True):
    # A helm that was built by `go install` believes in a Kubernetes of long ago, so it is told the version.
    arguments = ["template", release, CHART, "--kube-version", KUBERNETES_VERSIONS[0]]
    if operator:
        arguments += ["--api-versions", OPERATOR]
    for values in value_files:
        arguments += ["--values", values]
    return run(helm, *arguments)


def render(helm, release, *value_files, operator=True):
    result = template(helm, release, *value_files, operator=operator)
    if result.returncode != 0:
        sys.exit(f"helm template with {value_files} failed:\n{result.stderr}")
    return [rendered for rendered in yaml.load_all(result.stdout, Loader=yaml.CSafeLoader) if rendered]


@functools.cache
def values_of(value_set):
    """The values that a set leads to: the defaults with the set laid over them."""
    defaults, values = (yaml.load(path.read_text(), Loader=yaml.CSafeLoader) for path in (CHART / "values.yaml", value_set))
    return laid_over(defaults, values)


def laid_over(under, over):
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {key: laid_over(under[key], over[key]) if key in under and key in over else {**under, **over}[key]
            for key in {**under, **over}}


def of_kind(objects, kind):
    return [rendered for rendered in objects if rendered["kind"] == kind]


def named(objects, kind, ending):
    [found] = [rendered for rendered in of_kind(objects, kind) if rendered["metadata"]["name"].endswith(ending)]
    return found


def ticks_of(objects):
    return [rendered for rendered in of_kind(objects, "CronJob") if component(rendered).startswith("tick-")]


def purges_of(objects):
    return [rendered for rendered in of_kind(objects, "CronJob") if component(rendered) == "purge"]


def component(rendered):
    return rendered["metadata"]["labels"]["app.kubernetes.io/component"]


def pod_of(rendered):
    """The pod that an object makes, or none."""
    match rendered["kind"]:
        case "Pod":
            return rendered
        case "CronJob":
            return rendered["spec"]["jobTemplate"]["spec"]["template"]
        case "Deployment" | "Job":
            return rendered["spec"]["template"]
    return None


def containers_of(rendered):
    pod = pod_of(rendered)
    return pod["spec"]["containers"] + pod["spec"].get("initContainers", []) if pod else []


def seconds(duration):
    units = {"s": 1, "m": 60, "h": 3600}
    return int(duration[:-1]) * units[duration[-1]]

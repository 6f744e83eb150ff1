#!/usr/bin/env python3
"""Checks the chart in `helm/` without a cluster.

It lints and renders the chart with every value set of `helm/ci/`, with the Prometheus operator there and without, holds each object
against the schemas of several Kubernetes versions, and then against the rules of `rules.py`. Values that must be refused are tried
as well (`refusals.py`), and so is whether the rules notice what they are for (`breakages.py`).

    python3 tests/helm/check_chart.py --helm $(which helm)

Prints every violation, and ends with a non-zero code when there is one.
"""

import argparse
import sys

import kubernetes_validate
import yaml

from breakages import BREAKAGES, check_breakages
from chart import CHART, KUBERNETES_VERSIONS, VALUE_SETS, render, run, values_of
from refusals import REFUSED, check_refusals, check_secret_flags
from rules import check_objects

# The second is the longest that Helm allows.
RELEASE_NAMES = ["shop", "r" * 53]

# Of the Prometheus operator: Kubernetes has no schema for them.
CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule"}

# What full.yaml can't have as well, and the value set that has it.
ELSEWHERE = {
    # A database in a file has one server.
    "sqlite.enabled": "sqlite", "sqlite.storageClassName": "sqlite-claim", "sqlite.size": "sqlite", "sqlite.accessMode": "sqlite-claim",
    "sqlite.existingClaim": "sqlite-claim",
    # A URL is in a secret or in the values.
    "channels.email.url": "smtp", "channels.sms.url": "gateway", "channels.phone.url": "gateway", "channels.interaction.url": "gateway",
    "auth.jwt.jwksUrl": "access",
    # It is what full.yaml does without.
    "server.insecurePublic": "minimal", "monitor.enabled": "plain", "test.enabled": "plain", "serviceAccount.create": "plain",
    "service.headless": "plain", "podDisruptionBudget.enabled": "plain", "networkPolicy.enabled": "plain",
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--helm", default="helm", help="the helm program")
    helm = arguments.parse_args().helm

    assert VALUE_SETS, "helm/ci has no value sets"
    problems = []
    objects_seen = 0
    for value_set in VALUE_SETS:
        problems += lint(helm, value_set)
        for release, operator in [(RELEASE_NAMES[0], True), (RELEASE_NAMES[0], False), (RELEASE_NAMES[1], True)]:
            where = f"{value_set.name}, release {release[:8]}{'' if operator else ', no operator'}"
            objects = render(helm, release, value_set, operator=operator)
            objects_seen += len(objects)
            values = {**values_of(value_set), "operator": operator}
            problems += [f"{where}: {problem}" for problem in check_objects(objects, values)]
            if release == RELEASE_NAMES[0] and operator:
                problems += [f"{where}: {problem}" for rendered in objects for problem in check_schema(rendered)]
            print(f"rendered {where}: {len(objects)} objects")
    problems += check_refusals(helm)
    problems += check_secret_flags(helm)
    problems += check_breakages(helm)
    problems += check_full_is_full()

    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"{objects_seen} objects, {len(KUBERNETES_VERSIONS)} Kubernetes versions, {len(REFUSED)} refusals, {len(BREAKAGES)} breakages, "
          f"{len(problems)} problems")
    return 1 if problems else 0


def lint(helm, values):
    result = run(helm, "lint", "--strict", "--quiet", CHART, "--values", values)
    return [] if result.returncode == 0 else [f"{values.name}: helm lint: {result.stdout}{result.stderr}"]


def check_schema(rendered):
    if rendered["kind"] in CUSTOM_KINDS:
        return
    for version in KUBERNETES_VERSIONS:
        try:
            kubernetes_validate.validate(rendered, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            name = f"{rendered['kind']} {rendered['metadata']['name']}"
            yield f"{name}: Kubernetes {version}: {'.'.join(str(part) for part in error.path)}: {error.message}"


def check_full_is_full():
    """ci/full.yaml has each value, other than its default, so that no template goes untried; or else another set does."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    full = yaml.safe_load((CHART / "ci/full.yaml").read_text())
    for path in set(same_leaves(defaults, full)) - ELSEWHERE.keys():
        yield f"full.yaml: {path} is missing, or as by default"
    for path, name in ELSEWHERE.items():
        if path in set(same_leaves(defaults, yaml.safe_load((CHART / f"ci/{name}.yaml").read_text()))):
            yield f"{name}.yaml: {path} is missing, or as by default"


def same_leaves(defaults, values, path=""):
    """The paths of the defaults that are missing in other values, or are the same there."""
    if not isinstance(defaults, dict) or not defaults:
        if values is None or values == defaults:
            yield path
        return
    for key, default in defaults.items():
        yield from same_leaves(default, (values or {}).get(key), f"{path}.{key}" if path else key)


if __name__ == "__main__":
    sys.exit(main())

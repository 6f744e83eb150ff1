#!/usr/bin/env python3
"""Checks the alerts that ship with the chart, by promtool.

The rules are well formed, as a file and as the chart renders them. Each has a test in which it fires and one in which it does not, and
these hold. Each has a heading in the operations guide, where its link leads, and the guide has none for an alert that is gone. Its own links lead somewhere.

    python3 tests/helm/check_alerts.py --helm $(which helm) --promtool $(which promtool)
"""

import argparse
import pathlib
import re
import sys
import tempfile

import yaml

from chart import CHART, of_kind, render, run

RULES = CHART / "files/alerts.yaml"
TESTS = sorted(pathlib.Path(__file__).parent.glob("alerts*_test.yaml"))
GUIDE = CHART / "OPERATIONS.md"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--helm", default="helm", help="the helm program")
    arguments.add_argument("--promtool", default="promtool", help="the promtool program")
    arguments = arguments.parse_args()

    alerts = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    problems = [*check_promtool(arguments), *check_cases(alerts), *check_guide(alerts)]
    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"{len(alerts)} alerts, {len(problems)} problems")
    return 1 if problems else 0


def check_promtool(arguments):
    [rule] = of_kind(render(arguments.helm, "shop", CHART / "ci/full.yaml"), "PrometheusRule")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as rendered:
        yaml.safe_dump(rule["spec"], rendered)
        for command in (["check", "rules", RULES], ["check", "rules", rendered.name], ["test", "rules", *TESTS]):
            result = run(arguments.promtool, *command)
            if result.returncode != 0:
                yield f"promtool {' '.join(map(str, command))}: {result.stdout}{result.stderr}"


def check_cases(alerts):
    """Each alert is seen to fire, and not to."""
    seen = {name: set() for name in alerts}
    cases = [case for file in TESTS for test in yaml.safe_load(file.read_text())["tests"] for case in test["alert_rule_test"]]
    for case in cases:
        if case["alertname"] not in seen:
            yield f"a test of {case['alertname']}, which is no alert"
        else:
            seen[case["alertname"]].add(bool(case["exp_alerts"]))
    for name, outcomes in seen.items():
        if outcomes != {True, False}:
            yield f"{name} has no test in which it {'does not fire' if True in outcomes else 'fires'}"


def check_guide(alerts):
    """Links lead to headings, and to files that are there."""
    text = GUIDE.read_text()
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    for path, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", text):
        if not (GUIDE.parent / path).exists() or (not path and anchor not in anchors):
            yield f"{GUIDE.name} links to {path}#{anchor}, where nothing is"
    headings = re.findall(r"^### (Campaign\w+)$", text, re.MULTILINE)
    for name in sorted(alerts.keys() ^ set(headings)):
        yield f"{name} is an alert or a heading of {GUIDE.name}, and not the other"
    for name, rule in alerts.items():
        if rule["annotations"]["runbook_url"] != f"{GUIDE.name}#{name.lower()}":
            yield f"{name} leads to {rule['annotations']['runbook_url']}"


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Checks `helm/compose/compose.yaml` by the loader that Docker Compose has, and for what its schema does not ask.

    go install github.com/compose-spec/compose-go/v2/cmd@v2.16.2
    python3 tests/helm/check_compose.py --loader ~/go/bin/cmd
"""

import argparse
import pathlib
import re
import shutil
import sys
import tempfile

import yaml

from chart import CHART, run
from rules import declared_variables

FILE = CHART / "compose/compose.yaml"

# Services that are made from this repository, and the program that each runs.
OURS = {"migrate": "campaignd", "server": "campaignd"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--loader", default="cmd", help="the cmd program of compose-go")
    loader = arguments.parse_args().loader
    with tempfile.TemporaryDirectory() as folder:
        problems = [*check(loader, pathlib.Path(folder))]
    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"compose.yaml: {len(problems)} problems")
    return 1 if problems else 0


def check(loader, folder):
    """The whole of it, in a copy of the folder."""
    there = folder / "helm/compose"
    there.mkdir(parents=True)
    shutil.copy(FILE, there)
    refused = run(loader, FILE.name, cwd=there)
    if refused.returncode == 0 or "POSTGRES_PASSWORD is missing" not in refused.stdout + refused.stderr:
        yield f"without a password it is not refused for that: {refused.stdout}{refused.stderr}"
    # As .env would: this loader's command passes no variables on.
    text, count = re.subn(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}", "secret", FILE.read_text())
    assert count == 2, "the database and its URL have the password"
    (there / FILE.name).write_text(text)
    loaded = run(loader, FILE.name, cwd=there)
    if loaded.returncode != 0:
        yield f"it can't be loaded: {loaded.stdout}{loaded.stderr}"
        return
    yield from check_services(yaml.safe_load(loaded.stdout)["services"], folder.resolve())


def check_services(services, folder):
    for name, service in services.items():
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                yield f"{name} is open to the network"
        if (name in OURS) != ("build" in service):
            yield f"{name} is made here, and not checked"
    for name, program in OURS.items():
        service = services[name]
        if service["command"][0] != program:
            yield f"{name} runs {service['command']}"
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"] or "/tmp" not in service.get("tmpfs", []):
            yield f"{name} is not closed"
        for variable in service["environment"].keys() - declared_variables():
            yield f"{name}: {variable} is a variable that no program knows"
        if pathlib.Path(service["build"]["context"]) != folder or service["build"]["dockerfile"] != "helm/image/Dockerfile":
            yield f"{name} is built from {service['build']}"
    waits = {name: {other: how["condition"] for other, how in services[name]["depends_on"].items()} for name in OURS}
    if waits["server"].get("migrate") != "service_completed_successfully" or waits["migrate"] != {"database": "service_healthy"}:
        yield f"a server comes before the schema: {waits}"
    if not services["server"]["environment"].get("CAMPAIGN_SCHEDULE"):
        yield "nobody ticks"
    if services["server"]["healthcheck"]["test"] != ["CMD", "campaignctl", "check"]:
        yield "the server's health asks for a shell, which the image does not have"


if __name__ == "__main__":
    sys.exit(main())

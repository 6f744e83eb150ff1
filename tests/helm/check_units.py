#!/usr/bin/env python3
"""Checks the units of systemd in `helm/systemd/`, and runs what they start.

systemd's own verifier takes them, and rates what their sandboxes leave open. Then the server and both ticks are started with the commands
and the environment file that the units name, and do their work.

    python3 tests/helm/check_units.py --programs target/debug
"""

import argparse
import json
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from chart import CHART, run
from kubelet import free_port
from rules import declared_variables

UNITS = CHART / "systemd"

# Of 100, which is a service without any sandbox. systemd calls less than 25 fine.
MOST_EXPOSED = 25

# Where the units say that things are.
PROGRAMS, STATE = "/usr/local/bin", "/var/lib/campaign"

PATIENCE = 60


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="the folder of campaignd")
    programs = arguments.parse_args().programs.resolve()
    with tempfile.TemporaryDirectory(prefix="units-") as folder:
        problems = [*check_units(programs, pathlib.Path(folder)), *check_variables(), *run_units(programs, pathlib.Path(folder))]
    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"{len(list(UNITS.glob('*.*')))} files, {len(problems)} problems")
    return 1 if problems else 0


def check_units(programs, folder):
    """By systemd, for which the programs have to be there."""
    services = sorted(UNITS.glob("*.service"))
    for unit in [*services, *UNITS.glob("*.timer")]:
        (folder / unit.name).write_text(unit.read_text().replace(PROGRAMS, str(programs)))
    verified = run("systemd-analyze", "verify", "--man=no", *sorted(folder.glob("*.*")))
    # It also tells of units of this machine.
    said = [line for line in (verified.stdout + verified.stderr).splitlines() if "campaign" in line]
    if said or verified.returncode != 0:
        yield f"systemd-analyze verify: {said or verified.stderr}"
    for unit in services:
        rated = run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", folder / unit.name)
        if rated.returncode != 0:
            yield f"{unit.name} leaves too much open: {rated.stdout.splitlines()[-1:]}{rated.stderr}"


def check_variables():
    for name in read_environment():
        if name not in declared_variables():
            yield f"campaign.env: {name} is a variable that no program knows"


def read_environment():
    lines = (UNITS / "campaign.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def commands(unit, key):
    return [shlex.split(found) for found in re.findall(rf"^{key}=(.+)$", (UNITS / unit).read_text(), re.MULTILINE)]


def run_units(programs, folder):
    """The commands of the units, with their settings, in a folder that stands for the state's."""
    state = folder / "state"
    state.mkdir()
    port = free_port()
    environment = {name: value.replace(STATE, str(state)) for name, value in read_environment().items()}
    environment["CAMPAIGN_LISTEN"] = f"127.0.0.1:{port}"

    def here(command, instance=""):
        return [part.replace(PROGRAMS, str(programs)).replace("%i", instance) for part in command]

    for command in commands("campaignd.service", "ExecStartPre"):
        prepared = subprocess.run(here(command), env=environment, cwd=state, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if prepared.returncode != 0:
            yield f"{command}: {prepared.stderr}"
    [command] = commands("campaignd.service", "ExecStart")
    log = folder / "server.log"
    with open(log, "w", encoding="utf-8") as written:
        server = subprocess.Popen(here(command), env=environment, cwd=state, stdout=written, stderr=written)
    try:
        began = time.monotonic()
        while run(programs / "campaignctl", "--server", f"http://127.0.0.1:{port}", "check").returncode != 0:
            if server.poll() is not None or time.monotonic() - began > PATIENCE:
                yield f"the server does not come up: {log.read_text()}"
                return
            time.sleep(0.1)
        for kind in ("hourly", "daily"):
            [command] = commands("campaign-tick@.service", "ExecStart")
            ticked = subprocess.run(here(command, kind), env={"CAMPAIGN_SERVER": f"http://127.0.0.1:{port}"}, capture_output=True, text=True,
                                    timeout=PATIENCE, check=False)
            if ticked.returncode != 0 or f"{kind} tick:" not in ticked.stdout:
                yield f"{command}, {kind}, ended with {ticked.returncode}: {ticked.stdout}{ticked.stderr}"
        server.send_signal(signal.SIGTERM)
        if code := server.wait(PATIENCE):
            yield f"stopped, the server ended with {code}: {log.read_text()}"
        for line in log.read_text().splitlines():
            json.loads(line)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())

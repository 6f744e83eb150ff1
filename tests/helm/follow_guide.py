#!/usr/bin/env python3
"""Follows a page of the operations guide literally: "One machine: from empty to ticks".

Its console blocks are typed, one after the other, into one shell in an empty folder, by somebody who has the programs and nothing set.
Each command has to succeed, and to say what the page says it says, line by line, where `…` stands for anything.

    python3 tests/helm/follow_guide.py --programs target/debug

The page's port is its own, so this is done where no other server is: in a network of its own, where that can be made.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from chart import CHART, ROOT

GUIDE = CHART / "OPERATIONS.md"
PAGE = "One machine: from empty to ticks"

# How long the whole page may take.
PATIENCE = 180


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="the folder of campaignd")
    programs = arguments.parse_args().programs.resolve()

    steps = read_steps()
    assert len(steps) > 10, f"{GUIDE.name} has no such page, or little on it: {steps}"
    with tempfile.TemporaryDirectory(prefix="guide-") as folder:
        said = follow(steps, programs, pathlib.Path(folder))
    problems = [*check(steps, said)]
    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"{len(steps)} commands of the guide, {len(problems)} problems")
    return 1 if problems else 0


def read_steps():
    """The commands of the page's console blocks, each with the lines that it is said to say."""
    page = re.search(rf"^## {PAGE}$(.*?)^## ", GUIDE.read_text(), re.MULTILINE | re.DOTALL)[1]
    steps = []
    for block in re.findall(r"^```console$(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for line in block.strip().split("\n"):
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
    return steps


def follow(steps, programs, folder):
    """Types the commands into one shell; gives the exit code of each, and what it said."""
    script = ["exec 2>&1"]
    for number, (command, _) in enumerate(steps):
        # In the background there is nothing to wait for; elsewhere the code is the command's.
        script += [f"echo '<<< {number}'", command, f"echo \">>> {number} $?\""]
    network = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), "bash", "-c", 'ip link set lo up && exec "$@"', "bash"]
    shell = ["bash", "-m", "-c", "\n".join(script)]
    environment = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(folder), "SOURCE": str(ROOT)}
    followed = subprocess.run([*network, *shell], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return followed.stdout + followed.stderr


def check(steps, said):
    for number, (command, expected) in enumerate(steps):
        found = re.search(rf"^<<< {number}\n(.*?)^>>> {number} (\d+)$", said, re.MULTILINE | re.DOTALL)
        if not found:
            yield f"{command!r} did not come to its end:\n{said[-3000:]}"
            return
        if found[2] != "0":
            yield f"{command!r} ended with {found[2]}:\n{found[1]}"
        if expected and not re.fullmatch("".join(map(pattern, expected)), found[1]):
            yield f"{command!r} says otherwise than the guide:\n{found[1]}"


def pattern(line):
    """What a line of the guide stands for: `…` alone is any number of lines, and within a line anything."""
    return r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n"


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Checks the bill of materials that `helm/image/sbom` writes: that it is in CycloneDX's form, by CycloneDX's own schema, and that it names what is
in the programs, no less and no more.

    python3 tests/helm/check_sbom.py --programs target/debug

What is in a program is read off it: where something may panic, it holds the path of its source. `check` is also used on the image.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from chart import ROOT

PROGRAMS = ["campaignd", "campaign-tick", "campaignctl"]

# Some of what must be there, and some of what only builds: macros and generators.
LINKED = {"tonic", "sea-orm", "sqlx-postgres", "sqlx-sqlite", "libsqlite3-sys", "lettre", "rustls", "ring", "minijinja", "migrations"}
BUILT_WITH = {"protox", "tonic-prost-build", "prost-build", "serde_derive", "sea-orm-macros", "syn", "cc"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="the folder of campaignd")
    programs = arguments.parse_args().programs
    with tempfile.TemporaryDirectory(prefix="sbom-") as folder:
        twice = [pathlib.Path(folder) / name for name in ("one.cdx.json", "two.cdx.json")]
        for file in twice:
            subprocess.run([sys.executable, ROOT / "helm/image/sbom", file], check=True)
        problems = [*check(twice[0], programs)]
        if twice[0].read_bytes() != twice[1].read_bytes():
            problems.append("the same packages lead to another bill each time")
    for problem in problems:
        print(f"PROBLEM {problem}")
    return 1 if problems else 0


def check(file, programs):
    """All problems of a bill of materials for the programs in a folder."""
    text = file.read_text()
    if invalid := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        yield f"it is not CycloneDX: {invalid}"
        return
    bill = json.loads(text)
    named = {(component["name"], component["version"]) for component in bill["components"]}
    names = {name for name, _ in named}
    if missing := LINKED - names:
        yield f"it lacks {sorted(missing)}"
    if more := names & (BUILT_WITH | only_for_tests()):
        yield f"it names what no program has in it: {sorted(more)}"
    known = {(package["name"], package["version"]): package.get("checksum") for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    for component in bill["components"]:
        package = component["name"], component["version"]
        if [digest["content"] for digest in component.get("hashes", [])] != [known.get(package)] * (known.get(package) is not None):
            yield f"{package} is not the one of Cargo.lock"
        if not component.get("licenses"):
            yield f"{package} has no licence"
    refs = {component["bom-ref"] for component in [bill["metadata"]["component"], *bill["components"]]}
    if refs != {needs["ref"] for needs in bill["dependencies"]} or len(refs) != len(bill["components"]) + 1:
        yield "what needs what is not said of each package, once"
    seen = set().union(*(packages_in(programs / program) for program in PROGRAMS))
    if len(seen) < 50:
        yield f"the programs say of {len(seen)} packages only that they are in them"
    if unnamed := seen - named:
        yield f"the programs have in them what it does not name: {sorted(unnamed)}"
    print(f"{len(named)} packages, {len(seen)} of them by the programs' own words")


def only_for_tests():
    """The dev-dependencies that are nothing else as well."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    # They come by what is linked, too.
    shared = {"h2", "opentelemetry-proto"}
    alone = manifest["dev-dependencies"].keys() - manifest["dependencies"].keys() - shared
    assert "proptest" in alone, alone
    return alone


def packages_in(program):
    """Names and versions of packages in paths such as …/tonic-0.14.9/src/lib.rs."""
    paths = re.findall(rb"/registry/src/[^/\0]+/([A-Za-z0-9_-]+?)-(\d+\.\d+\.\d+[A-Za-z0-9.+-]*)/", program.read_bytes())
    return {(name.decode(), version.decode()) for name, version in paths}


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Builds what is in the image, as the Dockerfile does, and runs it as an engine would. There is no engine here.

The Dockerfile's script, `helm/image/build`, builds in a clean directory: one with the files that the Dockerfile takes along
(Dockerfile.dockerignore), and no others. What comes of it is made the root of a process: read only, with the image's user, with
nothing but /tmp and a volume to write to. There the server, a tick and `campaignctl check` have to do their work.

    python3 tests/helm/check_image.py

The clean directory is put in the place of the repository, seen by the build alone, so that cargo takes it for the same and builds nothing
again that is in its target directory: a minute instead of many. Needs root.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import check_sbom
from chart import CHART, ROOT
from kubelet import free_port

IMAGE = CHART / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text()
PROGRAMS = {"campaignd", "campaign-tick", "campaignctl"}
SBOM = pathlib.Path("usr/share/sbom/campaign-automation.cdx.json")

# Of the C library and the compiler: what programs in Rust load.
LIBRARIES = {"libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}

# Builds in a file system in which the clean directory is where the repository was.
BUILD = 'mount --bind "$1" "$2" && cd "$2" && exec bash helm/image/build "$3"'

# Starts what it is given as an engine would. The engine also writes /etc/hosts, and resolves names by it.
START = """
root=$1 volume=$2 names=$(cat "$1/etc/nsswitch.conf")
shift 2
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount --bind "$volume" "$root/var/lib/campaign"
mount -t tmpfs -o mode=0755 none "$root/etc"
echo "$names" > "$root/etc/nsswitch.conf"
echo '127.0.0.1 localhost' > "$root/etc/hosts"
exec chroot --userspec={user}:{user} "$root" "$@"
"""


def main():
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        folder = pathlib.Path(folder)
        # Others than root have to come by.
        folder.chmod(0o755)
        problems = [*check_dockerfile()]
        build(folder)
        problems += [*check_files(folder / "image"), *check_sbom.check(folder / "image" / SBOM, folder / "image/usr/local/bin"), *run_image(folder)]
    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"the image: {len(problems)} problems")
    return 1 if problems else 0


def user():
    return re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)[-1]


def check_dockerfile():
    *_, last = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    if not last.startswith("scratch\n"):
        yield "the image has more in it than the programs need"
    chart = re.search(r"runAsUser: (\d+)", (CHART / "templates/_helpers.tpl").read_text())[1]
    if user() != chart or user() == "0":
        yield f"the image's user is {user()}, and the chart's {chart}"
    rust = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
    if f"FROM rust:{rust}-" not in DOCKERFILE:
        yield f"the image is not built with Rust {rust}"


def build(folder):
    """Copies what the Dockerfile takes along, and runs its script there."""
    clean = folder / "clean"
    clean.mkdir()
    allowed = re.findall(r"^!(.+)$", (IMAGE / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    for name in allowed:
        # With their times, by which cargo knows whether they changed.
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clean / name)
        else:
            shutil.copy2(ROOT / name, clean / name)
    target = pathlib.Path(os.environ["CARGO_TARGET_DIR"]).resolve()
    assert ROOT not in target.parents, "the target directory can't be in the repository, which is hidden meanwhile"
    subprocess.run(["unshare", "--mount", "bash", "-euc", BUILD, "bash", clean, ROOT, folder / "image"],
                   env={**os.environ, "PROFILE": os.environ.get("PROFILE", "dev")}, check=True)


def check_files(image):
    """The programs, the libraries, and nothing else."""
    files = {path.relative_to(image) for path in image.rglob("*") if not path.is_dir()}
    programs = {path.name for path in files if path.parent == pathlib.Path("usr/local/bin")}
    libraries = {path for path in files if ".so" in path.name}
    if programs != PROGRAMS:
        yield f"programs are {sorted(programs)}"
    if unknown := {path.name for path in libraries} - LIBRARIES:
        yield f"the programs load {sorted(unknown)}: are they meant to?"
    if rest := files - libraries - {pathlib.Path("usr/local/bin") / name for name in PROGRAMS} - {SBOM, pathlib.Path("etc/nsswitch.conf")}:
        yield f"there is more in the image: {sorted(map(str, rest))}"
    size = sum((image / path).stat().st_size for path in files)
    print(f"{len(files)} files, {size / 2**20:.0f} MiB")


def run_image(folder):
    image, volume = folder / "image", folder / "volume"
    volume.mkdir()
    shutil.chown(volume, int(user()), int(user()))
    port = free_port()

    def command(*arguments):
        return ["unshare", "--mount", "bash", "-euc", START.replace("{user}", user()), "bash", image, volume, *arguments]

    # As the image has it, and nothing else.
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "CAMPAIGN_SERVER": f"http://localhost:{port}"}

    def run(*arguments):
        return subprocess.run(command(*arguments), env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)

    if (shell := run("/bin/sh", "-c", "true")).returncode == 0:
        yield f"there is a shell in it: {shell}"
    if (version := run("campaignd", "--version")).returncode != 0:
        yield f"campaignd does not start: {version.stderr}"
        return
    settings = ["--listen", f"127.0.0.1:{port}", "--database-url", "sqlite:///var/lib/campaign/campaign.db"]
    for channel in ("email", "sms", "phone", "interaction"):
        settings += [f"--{channel}-url", f"outbox:/var/lib/campaign/{channel}"]
    settings += ["--test-outbox-dir", "/var/lib/campaign/test"]
    server = subprocess.Popen(command("campaignd", *settings), env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = ""
        for line in server.stdout:
            said += line
            if "serving gRPC" in line:
                break
        for arguments in (("campaignctl", "check"), ("campaign-tick", "hourly"), ("campaign-tick", "daily")):
            done = run(*arguments)
            if done.returncode != 0:
                yield f"{' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}{said}"
        server.terminate()
        if code := server.wait(60):
            yield f"stopped, the server ended with {code}: {said}{server.stdout.read()}"
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())

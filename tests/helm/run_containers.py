#!/usr/bin/env python3
"""Runs every container of the chart, with real programs and a real database, in the order in which Kubernetes would.

For each value set: the migration, twice; the server, whose probes have to be content; both ticks, which have to send what is due;
the test. Then the database goes away and comes back: readiness has to say so and liveness must not, the test has to fail, and a tick
has to ask for another try. At the end the server is stopped as Kubernetes does.

    python3 tests/helm/run_containers.py --helm $(which helm) --programs target/debug --postgres postgres://user@127.0.0.1:5432/postgres
"""

import argparse
import base64
import pathlib
import secrets
import subprocess
import sys
import tempfile

from chart import CHART, ROOT, containers_of, of_kind, render, values_of
from kubelet import Kubelet
from rules import AWAITED

# Exit codes of campaign-tick.
TRY_AGAIN = 75

CHANNELS = ("mails", "sms", "calls", "tasks")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--helm", default="helm", help="the helm program")
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="the folder of campaignd")
    arguments.add_argument("--postgres", required=True, help="the URL of a PostgreSQL where databases may be made")
    arguments = arguments.parse_args()
    for name in ["minimal", "plain", "partitions", "sqlite", "sqlite-claim"]:
        with tempfile.TemporaryDirectory(prefix="chart-") as scratch:
            Release(arguments, name, pathlib.Path(scratch)).run()
        print(f"ran every container of ci/{name}.yaml")
    return 0


class Release:
    """A value set, as it is installed."""

    def __init__(self, arguments, name, scratch):
        self.arguments, self.scratch = arguments, scratch
        self.programs = arguments.programs.resolve()
        value_set = CHART / f"ci/{name}.yaml"
        self.values = values_of(value_set)
        more = []
        if "CAMPAIGN_MONITOR_LISTEN" in AWAITED:
            more = [scratch / "no-monitor.yaml"]
            more[0].write_text("monitor: {enabled: false}")
        self.objects = render(arguments.helm, "shop", value_set, *more)
        self.database = f"chart_{secrets.token_hex(6)}"
        self.kubelet = Kubelet(self.programs, scratch, self.secrets(), self.objects)

    def secrets(self):
        """Every Secret that a value set names, as somebody would have made it."""
        return {
            "campaign-database": {"url": f"{self.arguments.postgres.rsplit('/', 1)[0]}/{self.database}"},
            "campaign-secret": {"key": base64.b64encode(secrets.token_bytes(32)).decode()},
        }

    def run(self):
        if not self.values["sqlite"]["enabled"]:
            self.psql(f"CREATE DATABASE {self.database}")
        try:
            self.live()
        finally:
            if not self.values["sqlite"]["enabled"]:
                self.psql(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def live(self):
        for job in of_kind(self.objects, "Job"):
            for time in ("first", "second"):
                self.expect(job, 0, f"the migration, the {time} time")
        [deployment] = of_kind(self.objects, "Deployment")
        with self.kubelet.start(deployment) as server:
            server.until("readinessProbe", True)
            server.until("livenessProbe", True)
            self.seed()
            self.tick(0)
            self.expect_sent()
            for pod in of_kind(self.objects, "Pod"):
                self.expect(pod, 0, "the test")
            if not self.values["sqlite"]["enabled"]:
                self.lose_database(server)
            self.expect_end(server)
        # What comes after it finds everything as it was.
        with self.kubelet.start(deployment) as server:
            server.until("readinessProbe", True)
            self.ctl("progress", "anna")
            self.expect_end(server)

    def tick(self, code):
        for tick in of_kind(self.objects, "CronJob"):
            job = tick["spec"]["jobTemplate"]["spec"]
            for index in range(job.get("completions", 1)):
                self.expect(tick, code, f"{tick['metadata']['name']}, {index}", index)

    def expect(self, rendered, code, what, index=None):
        ended, said = self.kubelet.run(rendered, index)
        assert ended == code, f"{what} ended with {ended}, not {code}:\n{said}"

    def lose_database(self, server):
        """K7: readiness sees that the database is away, liveness does not."""
        self.psql(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.database}'")
        server.until("readinessProbe", False)
        assert server.probe("livenessProbe"), "a server is restarted because its database is away"
        self.tick(TRY_AGAIN)
        for pod in of_kind(self.objects, "Pod"):
            self.expect(pod, 1, "the test, without a database")
        self.psql(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")
        server.until("readinessProbe", True)
        self.tick(0)

    def expect_end(self, server):
        [container] = containers_of(of_kind(self.objects, "Deployment")[0])
        grace = int(container["args"][container["args"].index("--shutdown-grace") + 1].removesuffix("s"))
        code = server.stop(grace + 5)
        assert code == 0, f"stopped, the server ends with {code}:\n{server.said()}"
        assert "panicked" not in server.said(), server.said()

    def seed(self):
        """Somebody to whom something is due."""
        self.ctl("apply", ROOT / "examples")
        self.ctl("start", "anna", "hook-90-day")

    def expect_sent(self):
        sent = [path for channel in CHANNELS for path in (self.scratch / "tmp" / channel).rglob("*") if path.is_file()]
        assert sent, f"the ticks sent nothing: {sorted(self.scratch.rglob('*'))}"

    def ctl(self, *arguments):
        server = f"http://127.0.0.1:{self.kubelet.ports['grpc']}"
        called = subprocess.run([self.programs / "campaignctl", "--server", server, *arguments], capture_output=True, text=True, check=False)
        assert called.returncode == 0, f"campaignctl {arguments}: {called.stdout}{called.stderr}"
        return called.stdout

    def psql(self, statement):
        subprocess.run(["psql", self.arguments.postgres, "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--command", statement],
                       capture_output=True, check=True)


if __name__ == "__main__":
    sys.exit(main())

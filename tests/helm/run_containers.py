#!/usr/bin/env python3
"""Runs every container of the chart, with real programs and a real database, in the order in which Kubernetes would.

For each value set: the migration, three times, two of these at once, after one that was told to end; the server, whose probes have to be content; both ticks, which have to send what is due;
the test. Then the database goes away and comes back: readiness has to say so and liveness must not, the test has to fail, and a tick
has to ask for another try. Jobs that are told to end have to do so, and to say that they have to be tried again. The purge, where there is one, has to take away what is old and nothing else. At the end the server is stopped as
Kubernetes does.

    python3 tests/helm/run_containers.py --helm $(which helm) --programs target/debug --postgres postgres://user@127.0.0.1:5432/postgres
"""

import argparse
import contextlib
import datetime
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from chart import CHART, ROOT, containers_of, of_kind, purges_of, render, run, ticks_of, values_of
from kubelet import Kubelet, free_port
from made_up import MAIL_SERVER, MadeUp, MailServer
from roles import Roles

# The exit code of what is to be tried again.
TRY_AGAIN = 75

# The longest first.
VALUE_SETS = [
    "full", "closed", "access", "mesh", "minimal", "smtp", "gateway", "autoscaled", "plain", "partitions", "sqlite", "sqlite-claim",
]

CHANNELS = ("mails", "sms", "calls", "tasks")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--helm", default="helm", help="the helm program")
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="the folder of campaignd")
    arguments.add_argument("--postgres", required=True, help="the URL of a PostgreSQL where databases may be made")
    arguments = arguments.parse_args()
    # They wait more than they work.
    with ThreadPoolExecutor(4) as pool:
        for said in pool.map(lambda name: run_release(arguments, name), VALUE_SETS):
            print(said)
    return 0


def run_release(arguments, name):
    with tempfile.TemporaryDirectory(prefix="chart-") as scratch:
        Release(arguments, name, pathlib.Path(scratch)).run()
    return f"ran every container of ci/{name}.yaml"


class Release:
    """A value set, as it is installed."""

    def __init__(self, arguments, name, scratch):
        self.arguments, self.scratch = arguments, scratch
        self.programs = arguments.programs.resolve()
        value_set = CHART / f"ci/{name}.yaml"
        self.values = values_of(value_set)
        self.database = f"chart_{secrets.token_hex(6)}"
        self.url = f"{arguments.postgres.rsplit('/', 1)[0]}/{self.database}"
        # Owner and servers are two, where the values have a secret for each.
        self.roles = Roles(arguments.postgres, self.database) if self.values["migration"]["database"]["existingSecret"] else None
        urls = (self.roles.server, self.roles.owner) if self.roles else (self.url, self.url)
        self.made_up = MadeUp(made(scratch / "made-up"), *urls)
        # There is no Citus here.
        one_machine = scratch / "one-machine.yaml"
        one_machine.write_text("migration: {distribute: false}\n")
        self.objects = render(arguments.helm, "shop", value_set, one_machine)
        self.kubelet = Kubelet(self.programs, scratch, self.made_up.values, self.objects)
        self.mail_server = MailServer(free_port())
        # Where the identity provider and the mail server are.
        self.kubelet.elsewhere = {f"{self.made_up.provider.issuer}/keys": self.made_up.provider.url, MAIL_SERVER: self.mail_server.url}

    def run(self):
        if self.roles:
            self.roles.make()
        elif not self.values["sqlite"]["enabled"]:
            self.psql(f"CREATE DATABASE {self.database}")
        try:
            self.live()
        finally:
            self.mail_server.stop()
            if self.roles:
                self.roles.remove()
            elif not self.values["sqlite"]["enabled"]:
                self.psql(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def live(self):
        for job in of_kind(self.objects, "Job"):
            # Another migrator is at work.
            with self.holding("CREATE TABLE seaql_migrations (version varchar PRIMARY KEY, applied_at bigint NOT NULL)"):
                self.expect_told(job, "the migration")
            # K9: two at a time, as Kubernetes may start them, and one more.
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda which: self.expect(job, 0, f"the {which} migration"), ("first", "second")))
            self.expect(job, 0, "the third migration")
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
                with self.holding("LOCK TABLE tick_runs IN ACCESS EXCLUSIVE MODE"):
                    for told in [*ticks_of(self.objects), *purges_of(self.objects)]:
                        self.expect_told(told, told["metadata"]["name"])
            for purge in purges_of(self.objects):
                self.purge(purge)
            self.expect_end(server)
        # What comes after it finds everything as it was.
        with self.kubelet.start(deployment) as server:
            server.until("readinessProbe", True)
            self.ctl("progress", "anna")
            self.expect_end(server)

    def tick(self, code):
        for tick in ticks_of(self.objects):
            job = tick["spec"]["jobTemplate"]["spec"]
            for index in range(job.get("completions", 1)):
                self.expect(tick, code, f"{tick['metadata']['name']}, {index}", index)

    def expect(self, rendered, code, what, index=None):
        ended, said = self.kubelet.run(rendered, index)
        assert ended == code, f"{what} ended with {ended}, not {code}:\n{said}"
        return said

    def expect_told(self, rendered, what):
        """What hangs ends when it is told, well before it would be killed, and is to be tried again."""
        ended, said = self.kubelet.end(rendered)
        assert ended == TRY_AGAIN and "ended by a signal before it was done" in said, f"told to end, {what} ends with {ended}:\n{said}"

    @contextlib.contextmanager
    def holding(self, statement):
        """A transaction that has run a statement, until the end of the block."""
        with subprocess.Popen(["psql", self.url, "--quiet", "--no-psqlrc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as psql:
            psql.stdin.write(f"BEGIN;\n{statement};\n\\echo held\n")
            psql.stdin.flush()
            assert psql.stdout.readline() == "held\n", f"{statement} is not done"
            yield

    def purge(self, purge):
        """Of two ticks of long ago, one is older than that."""
        days = int(self.values["purge"]["olderThan"].removesuffix("d"))
        for which, age in enumerate((days + 1, days - 1)):
            self.psql(f"UPDATE tick_runs SET started_at = started_at - interval '{age} days' "
                      f"WHERE id = (SELECT id FROM tick_runs ORDER BY id LIMIT 1 OFFSET {which})", self.url)
        said = self.expect(purge, 0, "the purge")
        assert re.search(r"^from before \S+: 0 executions of ended runs, 0 engagement events, 1 ticks$", said, re.MULTILINE), said

    def lose_database(self, server):
        """K7: readiness sees that the database is away, liveness does not."""
        self.psql(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.database}'")
        server.until("readinessProbe", False)
        assert server.probe("livenessProbe"), "a server is restarted because its database is away"
        self.tick(TRY_AGAIN)
        for pod in of_kind(self.objects, "Pod"):
            self.expect(pod, 1, "the test, without a database")
        for purge in purges_of(self.objects):
            self.expect(purge, 1, "the purge, without a database")
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
        """Somebody to whom something is due, and for whom it is day, who is there for tests where there is a folder for these."""
        self.ctl("apply", ROOT / "examples")
        is_test = "true" if self.values["testOutbox"]["enabled"] else "false"
        customer = self.scratch / "anna.yaml"
        customer.write_text(f"customers: [{{customerId: anna, email: anna@shop.example, timeZone: {zone_of_day()}, isTest: {is_test}}}]")
        self.ctl("apply", customer)
        self.ctl("start", "anna", "hook-90-day")

    def expect_sent(self):
        folders = [self.scratch / "test-outbox", *(self.scratch / "tmp" / channel for channel in CHANNELS)]
        sent = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        if self.values["channels"]["email"]["url"] == MAIL_SERVER:
            sent = self.mail_server.mails
        assert sent, f"the ticks sent nothing: {sorted(self.scratch.rglob('*'))}"

    def ctl(self, *arguments):
        """As whoever set it up."""
        tls, auth = self.values["tls"]["existingSecret"], self.values["auth"]
        environment = {}
        if auth["callers"]["existingSecret"] or auth["jwt"]["issuer"]:
            environment = self.made_up.admin(tls, not auth["callers"]["existingSecret"])
        address = f"{'https' if tls else 'http'}://localhost:{self.kubelet.ports['grpc']}"
        called = run(self.programs / "campaignctl", "--server", address, *arguments, env=environment)
        assert called.returncode == 0, f"campaignctl {arguments}: {called.stdout}{called.stderr}"
        return called.stdout

    def psql(self, statement, url=None):
        subprocess.run(["psql", url or self.arguments.postgres, "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--command", statement],
                       capture_output=True, check=True)


def zone_of_day():
    """A zone in which it is about noon now. Its name says how far it is to UTC, not from it."""
    return f"Etc/GMT{datetime.datetime.now(datetime.timezone.utc).hour - 12:+d}"


def made(folder):
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Holds the alerts and the dashboard against the metrics that a server really has, and against a real Prometheus.

A server walks a short story: it sends, fails to send, is asked for what is there and what is not, over gRPC and REST. Then each metric and
label of each query has to be in its `/metrics`, and each of its metrics about campaigns in some query. Prometheus scrapes it, takes the
rules, and answers each query of the dashboard, with data.

    apt-get install prometheus
    python3 tests/helm/check_metrics.py --programs target/debug
"""

import argparse
import contextlib
import http.server
import json
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

from chart import CHART, ROOT
from kubelet import free_port
from queries import SCRAPED, alerts, asked, dashboard

PATIENCE = 60

# One message for each channel, all due at once. Nobody has no address, so that something fails.
FILES = """
campaign:
  campaignId: HELLO
  kind: CAMPAIGN_KIND_TRANSACTIONAL
  subject: "Hello"
  textBody: "Hello"
  smsText: "Hello"
  callScript: "Hello"
---
timeline:
  slug: a-day
  name: A day
  pipelineStage: hook
  durationDays: 2
  isActive: true
  actions:
    - {key: mail, dayNumber: 1, channel: CHANNEL_EMAIL, actionType: ACTION_TYPE_SEND_EMAIL, campaignId: HELLO}
    - {key: text, dayNumber: 1, channel: CHANNEL_SMS, actionType: ACTION_TYPE_SEND_SMS, campaignId: HELLO}
    - {key: call, dayNumber: 1, channel: CHANNEL_PHONE, actionType: ACTION_TYPE_MAKE_CALL, campaignId: HELLO}
    - {key: task, dayNumber: 1, channel: CHANNEL_INTERACTION, actionType: ACTION_TYPE_CREATE_TASK, campaignId: HELLO}
---
customers:
  - {customerId: anna, displayName: Anna, email: anna@shop.example, phone: '+14155552671', timeZone: Etc/UTC}
  - {customerId: nobody, displayName: Nobody, timeZone: Etc/UTC}
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="the folder of campaignd")
    arguments.add_argument("--prometheus", default="prometheus", help="the prometheus program")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="metrics-") as folder, contextlib.ExitStack() as running:
        folder, programs = pathlib.Path(folder), arguments.programs.resolve()
        server = Server(programs, folder, running)
        server.story()
        problems = [*check_names(read_metrics(server.get("/metrics")))]
        problems += Prometheus(arguments.prometheus, folder, server.monitor, running).check()
    for problem in problems:
        print(f"PROBLEM {problem}")
    print(f"{len(alerts())} alerts, {len(dashboard())} queries of the dashboard, {len(problems)} problems")
    return 1 if problems else 0


class Crm(http.server.BaseHTTPRequestHandler):
    """Takes every task, but for those about nobody."""

    def do_POST(self):
        task = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503 if b"nobody" in task else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server:
    """A server, and what is done to it."""

    def __init__(self, programs, folder, running):
        self.programs, self.folder = programs, folder
        self.port, self.monitor = free_port(), free_port()
        self.encrypt()
        crm = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Crm)
        threading.Thread(target=crm.serve_forever, daemon=True).start()
        running.callback(crm.shutdown)
        settings = {
            "CAMPAIGN_LISTEN": f"127.0.0.1:{self.port}",
            "CAMPAIGN_MONITOR_LISTEN": f"127.0.0.1:{self.monitor}",
            "CAMPAIGN_SURVEY_INTERVAL": "1s",
            "CAMPAIGN_TLS_CERT_FILE": "server.pem",
            "CAMPAIGN_TLS_KEY_FILE": "server.key",
            "CAMPAIGN_SMS_HOURS": "always",
            "CAMPAIGN_PHONE_HOURS": "always",
            "CAMPAIGN_INTERACTION_URL": f"http://127.0.0.1:{crm.server_address[1]}/tasks",
            "CAMPAIGN_WEBHOOK_SECRET": f"whsec_{'A' * 43}=",
            "CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS": "true",
        }
        with open(folder / "server.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([programs / "campaignd"], env=settings, cwd=folder, stdout=log, stderr=log)
        running.callback(lambda: (self.process.kill(), self.process.wait()))
        self.until(lambda: self.get("/readyz") is not None, "the server does not come up")

    def encrypt(self):
        """Makes a certificate, as there is a metric of it."""
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                   "-subj", "/CN=campaigns", "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1",
                   "-keyout", "server.key", "-out", "server.pem"]
        subprocess.run(command, cwd=self.folder, capture_output=True, check=True)

    def story(self):
        for number, text in enumerate(FILES.split("---\n")):
            (self.folder / f"{number}.yaml").write_text(text)
        self.call("campaignctl", "apply", *sorted(self.folder.glob("*.yaml")))
        self.call("campaignctl", "start", "anna", "a-day")
        self.call("campaignctl", "start", "nobody", "a-day")
        for kind in ("hourly", "daily"):
            self.call("campaign-tick", kind)
        self.call("campaignctl", "check")
        assert self.get("/api/v1/customers/anna", self.port) and not self.get("/api/v1/customers/carl", self.port)
        # The numbers that come from the database come from time to time.
        ticked = "campaign_tick_last_success_timestamp_seconds{"
        self.until(lambda: 'tick="daily"' in "".join(re.findall(rf"^{re.escape(ticked)}.*$", self.get("/metrics"), re.MULTILINE)),
                   "the last tick is in no metric")

    def call(self, program, *arguments):
        called = subprocess.run([self.programs / program, *arguments], env={"CAMPAIGN_SERVER": f"https://127.0.0.1:{self.port}", "CAMPAIGN_CA_FILE": str(self.folder / "server.pem")},
                                capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert called.returncode == 0, f"{program} {arguments}: {called.stdout}{called.stderr}"

    def get(self, path, port=None):
        """What is there, or none."""
        url = f"https://127.0.0.1:{port}{path}" if port else f"http://127.0.0.1:{self.monitor}{path}"
        trusted = ssl.create_default_context(cafile=str(self.folder / "server.pem")) if port else None
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(url, timeout=10, context=trusted) as answer:
                return answer.read().decode()
        return None

    def until(self, holds, otherwise):
        began = time.monotonic()
        while not holds():
            assert self.process.poll() is None and time.monotonic() - began < PATIENCE, f"{otherwise}:\n{(self.folder / 'server.log').read_text()}"
            time.sleep(0.1)


class Prometheus:
    """A real one, that scrapes the server every second and has the rules."""

    def __init__(self, program, folder, monitor, running):
        self.port = free_port()
        scrape = {"job_name": "campaigns", "scrape_interval": "1s", "scrape_timeout": "1s",
                  "static_configs": [{"targets": [f"127.0.0.1:{monitor}"], "labels": {"namespace": "crm"}}]}
        config = {"global": {"evaluation_interval": "1s"}, "rule_files": [str(CHART / "files/alerts.yaml")], "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        with open(self.log, "w", encoding="utf-8") as log:
            process = subprocess.Popen([program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                                        f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=log)
        running.callback(lambda: (process.kill(), process.wait()))
        began = time.monotonic()
        # Rates need two scrapes at least.
        while not self.has_scraped(3):
            assert process.poll() is None and time.monotonic() - began < PATIENCE, f"nothing is scraped:\n{self.log.read_text()}"
            time.sleep(0.2)

    def has_scraped(self, times):
        try:
            result = self.ask("query", query="min(count_over_time(campaign_ready[1m]))")["result"]
        except (OSError, ValueError):
            # It does not listen yet, or says that it is not ready (503).
            return False
        return bool(result) and float(result[0]["value"][1]) >= times

    def ask(self, what, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error.code}: {error.read().decode()}") from error

    def check(self):
        problems = []
        for title, query, _ in dashboard():
            try:
                if not self.ask("query", query=query)["result"]:
                    problems.append(f"{title!r} shows nothing: {query}")
            except ValueError as error:
                problems.append(f"{title!r}: {query}: {error}")
        began = time.monotonic()
        rules = self.rules()
        while any(rule["health"] == "unknown" for rule in rules):
            assert time.monotonic() - began < PATIENCE, f"rules are not evaluated: {rules}"
            time.sleep(0.2)
            rules = self.rules()
        for rule in rules:
            if rule["health"] != "ok":
                problems.append(f"{rule['name']}: {rule.get('lastError')}")
        if {name for name, _ in alerts()} - {rule["name"] for rule in rules}:
            problems.append("Prometheus does not have all rules")
        return problems

    def rules(self):
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


def read_metrics(text):
    """The labels of each name in the text format, over all its series."""
    labels = {}
    for line in text.splitlines():
        if found := re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", line):
            labels.setdefault(found[1], set()).update(re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', found[2] or ""))
    return labels


def check_names(metrics):
    """Whatever queries name is there, and whatever tells of campaigns is asked for."""
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    used = set()
    for where, query in [*alerts(), *((title, query) for title, query, _ in dashboard())]:
        names, grouped, words = asked(query)
        used |= names.keys()
        for name, labels in names.items():
            if name not in metrics:
                yield f"{where!r} asks for {name}, which the server does not have"
            elif missing := labels - metrics[name] - SCRAPED:
                yield f"{where!r} asks for labels of {name} that it does not have: {sorted(missing)}"
        if missing := grouped - SCRAPED - set().union(*(metrics.get(name, set()) for name in names)):
            yield f"{where!r} groups by labels that nothing has: {sorted(missing)}"
        for label, word in sorted(words):
            if f'"{word}"' not in source:
                yield f"{where!r} asks for {label}={word}, a word that is nowhere in the code"
    for name in sorted(metrics):
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        if name.startswith("campaign_") and not any(re.sub(r"_(bucket|count|sum)$", "", asked_for) == family for asked_for in used):
            yield f"{name} is asked for by no alert and no panel"


if __name__ == "__main__":
    sys.exit(main())

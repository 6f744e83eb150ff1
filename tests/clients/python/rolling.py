#!/usr/bin/env python3
"""Replaces servers under load, one after the other, as a rollout does, and counts what callers notice.

Two servers on one PostgreSQL database are called without a break by two kinds of clients. Those that have the published service config
(`proto/campaign/v1/grpc_service_config.json`) may notice nothing. Those without it see UNAVAILABLE at most. At the end each
customer has exactly one run.

    python3 tests/clients/python/rolling.py --programs target/debug --database-url postgres://… -- FLAGS OF campaignd
"""

import argparse
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import grpc

from run import PROTO, generate_stubs

ROOT = PROTO.parent
SERVICE_CONFIG = PROTO / "campaign/v1/grpc_service_config.json"

# How often each server is replaced.
ROUNDS = 3

# How many calls each kind of client makes between two replacements, and how many at a time.
CALLS = 150
THREADS = 4


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="where campaignd and campaignctl are")
    arguments.add_argument("--database-url", required=True, help="an empty database, migrated")
    arguments.add_argument("flags", nargs="*", help="further flags of campaignd")
    options = arguments.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        generate_stubs(folder)
        sys.path.insert(0, folder)
        servers = [Server(options) for _ in range(2)]
        try:
            for server in servers:
                server.start()
            return roll(options, servers)
        finally:
            for server in servers:
                server.kill()


def roll(options, servers):
    subprocess.run(
        [options.programs / "campaignctl", "--server", f"http://{servers[0].address}", "apply", ROOT / "examples"],
        check=True, stdout=subprocess.DEVNULL, timeout=60)
    target = "ipv4:" + ",".join(server.address for server in servers)
    configured = Load("with the service config", target, SERVICE_CONFIG.read_text())
    plain = Load("without it", target, json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))
    loads = [configured, plain]
    for load in loads:
        load.begin()
    for _ in range(ROUNDS):
        for server in servers:
            for load in loads:
                load.wait_for(CALLS)
            server.stop()
            for load in loads:
                load.wait_for(CALLS)
            server.start()
    for load in loads:
        load.wait_for(CALLS)
        load.end()

    good = True
    for load in loads:
        failures = ", ".join(f"{count} {code}" for code, count in sorted(load.failures.items())) or "none"
        print(f"{load.calls} calls {load.what}, failed: {failures}")
        good &= set(load.failures) <= ({"UNAVAILABLE"} if load is plain else set())
    wrong = [customer for load in loads for customer in load.customers if load.count_runs(customer) != 1]
    print(f"{sum(len(load.customers) for load in loads)} customers, {len(wrong)} without exactly one run {wrong[:5]}")
    return 0 if good and not wrong else 1


class Server:
    """A campaignd on a port of its own, which it keeps when it is replaced."""

    def __init__(self, options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.command = [options.programs / "campaignd", "--listen", self.address, *options.flags]
        self.environment = {**os.environ, "CAMPAIGN_DATABASE_URL": options.database_url}
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, env=self.environment, stderr=subprocess.PIPE, text=True)
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if "serving" in line:
                break
        else:
            sys.exit("the server ended:\n" + "".join(lines))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        if code != 0:
            sys.exit(f"a server that was told to stop ended with {code}")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Load:
    """Some callers, each with one call after the other."""

    def __init__(self, what, target, service_config):
        self.what = what
        # A list of addresses is no host name, which a request has to have.
        options = [("grpc.service_config", service_config), ("grpc.default_authority", "localhost")]
        self.channel = grpc.insecure_channel(target, options=options)
        self.changed = threading.Condition()
        self.calls = 0
        self.failures = {}
        self.customers = []
        self.ending = False
        self.threads = []

        from campaign.v1 import customer_pb2, customer_service_pb2, customer_service_pb2_grpc
        from campaign.v1 import orchestrator_service_pb2, orchestrator_service_pb2_grpc
        from campaign.v1 import timeline_service_pb2, timeline_service_pb2_grpc
        self.customer = customer_service_pb2
        self.message = customer_pb2.Customer
        self.customer_service = customer_service_pb2_grpc.CustomerServiceStub(self.channel)
        self.run = orchestrator_service_pb2
        self.run_service = orchestrator_service_pb2_grpc.CampaignOrchestratorServiceStub(self.channel)
        get = timeline_service_pb2.GetTimelineRequest(slug="hook-90-day")
        timelines = timeline_service_pb2_grpc.CampaignTimelineServiceStub(self.channel)
        self.timeline_id = timelines.GetTimeline(get, timeout=30, wait_for_ready=True).timeline.timeline_id

    def begin(self):
        kind = self.what.split()[0]
        for number in range(THREADS):
            thread = threading.Thread(target=self.call_on, args=(f"{kind}-{number}",), daemon=True)
            thread.start()
            self.threads.append(thread)

    def call_on(self, name):
        for number in itertools.count():
            if self.ending:
                return
            customer = f"{name}-{number}"
            stored = self.customer.UpsertCustomersRequest(
                customers=[self.message(customer_id=customer, email=f"{customer}@example.com")])
            start = self.run.StartTimelineRequest(
                customer_id=customer, timeline_id=self.timeline_id, request_id=f"start-{customer}")
            if self.call(self.customer_service.UpsertCustomers, stored) and self.call(self.run_service.StartTimeline, start):
                with self.changed:
                    self.customers.append(customer)
                self.call(self.run_service.GetProgress, self.run.GetProgressRequest(customer_id=customer))

    def call(self, method, request):
        code = None
        try:
            method(request, timeout=30)
        except grpc.RpcError as error:
            code = error.code().name
            if code != "UNAVAILABLE":
                print(f"{self.what}: {code}: {error.details()}")
        with self.changed:
            self.calls += 1
            if code:
                self.failures[code] = self.failures.get(code, 0) + 1
            self.changed.notify_all()
        return code is None

    def wait_for(self, calls):
        """Waits until so many more calls were answered."""
        with self.changed:
            until = self.calls + calls
            if not self.changed.wait_for(lambda: self.calls >= until, timeout=120):
                sys.exit(f"calls {self.what} are no longer answered")

    def end(self):
        self.ending = True
        for thread in self.threads:
            thread.join(timeout=60)

    def count_runs(self, customer):
        request = self.run.ListProgressRequest(customer_id=customer)
        return len(self.run_service.ListProgress(request, timeout=30, wait_for_ready=True).progress)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Holds the REST interface of a server that runs against the document that it serves, with Schemathesis.

First it calls the endpoints of the original system as they were, which also gives the cases something to find. Then
Schemathesis makes up thousands of requests by the document, good and bad ones, the same in each run, and looks for server
errors, for statuses and types that the document has not, and for answers that do not fit their schemas.

    python3 -m pip install -r tests/clients/rest/requirements.txt
    python3 tests/clients/rest/run.py --server http://127.0.0.1:50051
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--server", default="http://127.0.0.1:50051", help="URL")
    arguments.add_argument("--wait", type=float, default=30, help="seconds until the server must be there")
    arguments.add_argument("--examples", type=int, default=10, help="cases for each operation, besides those at bounds")
    options = arguments.parse_args()

    wait_for(f"{options.server}/openapi.json", options.wait)
    call_the_original_endpoints(options.server)
    here = pathlib.Path(__file__).resolve().parent
    schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
    # One worker: Python 3.11 to 3.11.7 can't parse Python in two threads (https://github.com/python/cpython/issues/106905).
    command = [schemathesis, "run", f"{options.server}/openapi.json", "--no-color", "--seed", "1", "--workers", "1"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(options.examples), "--warnings", "off"]
    command += ["--checks", ",".join(CHECKS), "--request-timeout", "60", "--no-shrink"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(here)}
    # Its cache of cases is left behind in the working directory.
    with tempfile.TemporaryDirectory() as scratch:
        ended = subprocess.run(command, env=environment, cwd=scratch, check=False)
    if ended.returncode == 0:
        wait_for(f"{options.server}/api/v1/sending-status", 1)
    sys.exit(ended.returncode)


def wait_for(url, seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read()
        except OSError as error:
            if time.monotonic() > end:
                sys.exit(f"{url} does not answer: {error}")
            time.sleep(0.2)


def call_the_original_endpoints(server):
    name = f"rest-{uuid.uuid4().hex[:8]}"
    campaign = {"campaignId": name, "kind": "CAMPAIGN_KIND_TRANSACTIONAL", "subject": "Hi", "textBody": "Hello"}
    call(server, "/api/v1/campaigns:apply", {"campaign": campaign})
    action = {"dayNumber": 1, "channel": "CHANNEL_EMAIL", "actionType": "ACTION_TYPE_SEND_EMAIL", "campaignId": name}
    timeline = {"slug": name, "name": "REST", "pipelineStage": "rest", "durationDays": 90, "isActive": True, "actions": [action]}
    applied = call(server, "/api/v1/timelines:apply", {"timeline": timeline})
    call(server, "/api/v1/customers:upsert", {"customers": [{"customerId": name, "email": "rest@example.com"}]})

    timeline_id = int(applied["timeline"]["timelineId"])
    started = call(server, f"/api/v1/customers/{name}/timelines", {"timeline_id": timeline_id})
    shown = call(server, f"/api/v1/customers/{name}/timeline-progress")
    assert shown == started, (shown, started)
    run = shown["progress"]["progressId"]
    paused = call(server, f"/api/v1/customers/{name}/timeline-progress/{run}/pause", None, "POST")
    assert paused["progress"]["status"] == "PROGRESS_STATUS_PAUSED", paused
    print(f"the original endpoints: run {run} of {name} was started, shown and paused")


def call(server, path, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server + path, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {error.code}: {error.read().decode()}")


if __name__ == "__main__":
    main()

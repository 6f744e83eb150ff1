#!/usr/bin/env python3
"""Walks through the contract as a client in another language would, against a server that runs.

The stubs are generated from `proto/` into a temporary folder. Everything is made under names that no run before used, so
the server's database need not be empty. Each check is printed; the exit code is not 0 when one failed.

    python3 -m pip install -r tests/clients/python/requirements.txt
    python3 tests/clients/python/run.py --server 127.0.0.1:50051
"""

import argparse
import importlib.resources
import pathlib
import re
import sys
import tempfile
import uuid

import grpc
from google.protobuf import field_mask_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[3] / "proto"
DOMAIN = "campaign.v1"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--server", default="127.0.0.1:50051", help="host:port")
    arguments.add_argument("--wait", type=float, default=30, help="seconds until the server must be there")
    options = arguments.parse_args()

    with tempfile.TemporaryDirectory() as stubs:
        generate_stubs(stubs)
        sys.path.insert(0, stubs)
        checks = Checks()
        with grpc.insecure_channel(options.server) as channel:
            wait_for_server(channel, options)
            run_scenario(Client(channel), checks)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


def wait_for_server(channel, options):
    try:
        grpc.channel_ready_future(channel).result(timeout=options.wait)
    except grpc.FutureTimeoutError:
        sys.exit(f"no server at {options.server} within {options.wait:g} seconds")


def generate_stubs(target):
    """Generates stubs of our own files only.

    The google ones come with googleapis-common-protos, and a process should have one definition of each file.
    """
    ours = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("campaign/v1/*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    code = protoc.main([
        "protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={target}", f"--grpc_python_out={target}", *ours,
    ])
    if code != 0:
        sys.exit("the stubs can't be generated")


class Checks:
    """Counts and prints."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, what, holds, seen=None):
        if holds:
            self.passed += 1
            print(f"ok      {what}")
        else:
            self.failed += 1
            print(f"FAILED  {what}" + ("" if seen is None else f"\n        seen: {seen}"))

    def equal(self, what, seen, expected):
        self.that(what, seen == expected, f"{seen!r}, expected {expected!r}")

    def refused(self, what, call, code, reason=None):
        """Calls, expects an error of this code and reason, and gives back the status with its details for a closer look."""
        try:
            call()
        except grpc.RpcError as error:
            self.equal(f"{what}: {code.name}", error.code(), code)
            failure = Failure(rpc_status.from_call(error), error.details())
        else:
            self.that(f"{what}: {code.name}", False, "no error at all")
            return Failure(None, "")
        self.equal(f"{what}: the error's domain", failure.info.domain, DOMAIN)
        if reason is None:
            well_formed = re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", failure.info.reason)
            self.that(f"{what}: a reason for programs", well_formed, failure.info.reason)
        else:
            self.equal(f"{what}: reason", failure.info.reason, reason)
        return failure


class Failure:
    """A google.rpc.Status with its details taken apart."""

    def __init__(self, status, message):
        self.message = message
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        for detail in status.details if status else []:
            for wanted in (self.info, self.bad_request):
                if detail.Is(wanted.DESCRIPTOR):
                    detail.Unpack(wanted)

    @property
    def fields(self):
        return [violation.field for violation in self.bad_request.field_violations]


class Client:
    """The stubs of all services, with a deadline on every call, as every caller should have one."""

    def __init__(self, channel):
        from campaign.v1 import (
            content_service_pb2_grpc,
            customer_service_pb2_grpc,
            orchestrator_service_pb2_grpc,
            tick_service_pb2_grpc,
            timeline_service_pb2_grpc,
        )

        self.orchestrator = WithDeadline(orchestrator_service_pb2_grpc.CampaignOrchestratorServiceStub(channel))
        self.content = WithDeadline(content_service_pb2_grpc.CampaignContentServiceStub(channel))
        self.timelines = WithDeadline(timeline_service_pb2_grpc.CampaignTimelineServiceStub(channel))
        self.customers = WithDeadline(customer_service_pb2_grpc.CustomerServiceStub(channel))
        self.ticks = WithDeadline(tick_service_pb2_grpc.CampaignTickServiceStub(channel))
        self.health = WithDeadline(health_pb2_grpc.HealthStub(channel))


class WithDeadline:
    def __init__(self, stub):
        self._stub = stub

    def __getattr__(self, method):
        call = getattr(self._stub, method)
        return lambda request: call(request, timeout=60)


def run_scenario(client, checks):
    # Names of this run alone.
    run = uuid.uuid4().hex[:12]
    check_health(client, checks)
    stage = f"stage-{run}"
    customer_ids = check_customers(client, checks, run, stage)
    check_paging(client, checks, stage, customer_ids)
    check_campaigns(client, checks, run)
    timeline = check_timeline(client, checks, run, stage)
    customer_id = customer_ids[0]
    progress_id = check_start(client, checks, run, customer_id, timeline)
    check_hourly_tick(client, checks, run, timeline.timeline_id)
    check_progress(client, checks, customer_id, progress_id)
    check_daily_tick(client, checks, run, timeline.timeline_id)
    check_pause_and_stop(client, checks, customer_id, progress_id)


def check_health(client, checks):
    """The names that the probes of the Helm chart ask for."""
    for service in ("", "campaign.v1.CampaignOrchestratorService"):
        answer = client.health.Check(health_pb2.HealthCheckRequest(service=service))
        checks.equal(f"health of {service!r}", answer.status, health_pb2.HealthCheckResponse.SERVING)


def check_customers(client, checks, run, stage):
    from campaign.v1 import customer_pb2, customer_service_pb2

    def customer(number, **fields):
        return customer_pb2.Customer(
            customer_id=f"py-{run}-{number}",
            display_name=f"Customer {number}",
            email=f"customer-{number}@example.com",
            phone="+14155552671",
            time_zone="America/New_York",
            pipeline_stage=stage,
            engagement_score=40 + number,
            **fields,
        )

    customers = [customer(number) for number in range(7)]
    customers[0].attributes.update({"plan": "gold", "seats": 3, "owner": {"name": "Ada"}})
    request = customer_service_pb2.UpsertCustomersRequest(customers=customers, request_id=f"upsert-{run}")
    response = client.customers.UpsertCustomers(request)
    checks.equal("UpsertCustomers has one result per customer, in order",
                 [result.customer.customer_id for result in response.results],
                 [sent.customer_id for sent in customers])
    checks.that("UpsertCustomers: all are new", all(result.created for result in response.results))
    first = response.results[0].customer
    checks.equal("attributes come back as they were sent", dict(first.attributes), dict(customers[0].attributes))
    checks.equal("the zone in force is the customer's own", first.effective_time_zone, "America/New_York")

    checks.equal("UpsertCustomers again with the request id answers the same",
                 client.customers.UpsertCustomers(request), response)

    mixed = client.customers.UpsertCustomers(customer_service_pb2.UpsertCustomersRequest(
        customers=[
            customer_pb2.Customer(customer_id=customers[1].customer_id, engagement_score=0),
            customer_pb2.Customer(customer_id=f"py-{run}-bad", time_zone="US/Eastern", phone="12345"),
        ],
        update_mask=field_mask_pb2.FieldMask(paths=["engagement_score"]),
    ))
    checks.equal("a mask writes a zero", mixed.results[0].customer.engagement_score, 0)
    checks.equal("a mask leaves the rest alone", mixed.results[0].customer.display_name, "Customer 1")
    checks.equal("a bad item has an error of its own", mixed.results[1].WhichOneof("result"), "error")
    error = mixed.results[1].error
    failure = Failure(error, error.message)
    checks.equal("a bad item: INVALID_ARGUMENT", error.code, grpc.StatusCode.INVALID_ARGUMENT.value[0])
    checks.equal("a bad item: the error's domain", failure.info.domain, DOMAIN)
    for field in ("time_zone", "phone"):
        checks.that(f"a bad item: its {field} is named", any(path.endswith(field) for path in failure.fields),
                    failure.fields)

    read = client.customers.GetCustomer(customer_service_pb2.GetCustomerRequest(customer_id=first.customer_id))
    checks.equal("GetCustomer reads what was stored", read.customer, first)
    failure = checks.refused(
        "GetCustomer of nobody",
        lambda: client.customers.GetCustomer(customer_service_pb2.GetCustomerRequest(customer_id=f"no-{run}")),
        grpc.StatusCode.NOT_FOUND,
    )
    checks.that("GetCustomer of nobody: the customer is named", f"no-{run}" in failure.message, failure.message)
    return [sent.customer_id for sent in customers]


def check_paging(client, checks, stage, customer_ids):
    from campaign.v1 import customer_service_pb2

    def page(**fields):
        return client.customers.ListCustomers(customer_service_pb2.ListCustomersRequest(**fields))

    pages = []
    token = ""
    while True:
        answer = page(pipeline_stage=stage, page_size=3, page_token=token)
        pages.append([customer.customer_id for customer in answer.customers])
        token = answer.next_page_token
        if not token or len(pages) > len(customer_ids):
            break
        other_filter = token
    checks.that("ListCustomers: pages hold three at most", all(len(ids) <= 3 for ids in pages), pages)
    checks.equal("ListCustomers: the pages together are all, by id", sum(pages, []), sorted(customer_ids))
    checks.refused("a page token with another filter",
                   lambda: page(pipeline_stage="other", page_size=3, page_token=other_filter),
                   grpc.StatusCode.INVALID_ARGUMENT)
    failure = checks.refused("a negative page size", lambda: page(page_size=-1), grpc.StatusCode.INVALID_ARGUMENT)
    checks.equal("a negative page size: the field is named", failure.fields, ["page_size"])


def check_campaigns(client, checks, run):
    from campaign.v1 import content_pb2, content_service_pb2

    def apply(**content):
        definition = content_pb2.CampaignDefinition(kind=content_pb2.CAMPAIGN_KIND_TRANSACTIONAL, **content)
        return client.content.ApplyCampaign(content_service_pb2.ApplyCampaignRequest(campaign=definition))

    mail = apply(campaign_id=f"PY-{run}-MAIL", subject="Welcome, {{ customer.name }}", text_body="Day {{ day }}.")
    checks.that("ApplyCampaign creates", mail.created and mail.campaign.revision == 1, mail)
    checks.that("the etag is quoted", re.fullmatch(r'"[^"]+"', mail.campaign.etag), mail.campaign.etag)
    apply(campaign_id=f"PY-{run}-SMS", sms_text="Hello {{ customer.name }}")

    checks.refused("ApplyCampaign on a stored one without its etag",
                   lambda: apply(campaign_id=f"PY-{run}-MAIL", subject="Other", text_body="Other"),
                   grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    failure = checks.refused("ApplyCampaign with a template that can't be parsed",
                             lambda: apply(campaign_id=f"PY-{run}-BAD", subject="Hi", text_body="one\n{{ customer."),
                             grpc.StatusCode.INVALID_ARGUMENT)
    checks.that("a template that can't be parsed: the field is named",
                any(path.endswith("text_body") for path in failure.fields), failure.fields)


def check_timeline(client, checks, run, stage):
    from campaign.v1 import common_pb2, condition_pb2, timeline_pb2, timeline_service_pb2

    def apply(definition, **fields):
        request = timeline_service_pb2.ApplyTimelineRequest(timeline=definition, **fields)
        return client.timelines.ApplyTimeline(request)

    definition = timeline_pb2.TimelineDefinition(
        slug=f"py-{run}",
        name="From Python",
        pipeline_stage=stage,
        duration_days=5,
        is_active=True,
        actions=[
            timeline_pb2.ActionDefinition(
                day_number=1,
                channel=common_pb2.CHANNEL_EMAIL,
                action_type=common_pb2.ACTION_TYPE_SEND_EMAIL,
                campaign_id=f"PY-{run}-MAIL",
            ),
            timeline_pb2.ActionDefinition(
                key="reminder",
                day_number=3,
                delay_hours=10,
                channel=common_pb2.CHANNEL_SMS,
                action_type=common_pb2.ACTION_TYPE_SEND_SMS,
                campaign_id=f"PY-{run}-SMS",
                conditions=[
                    condition_pb2.Condition(
                        email_opened=condition_pb2.EmailOpened(within_hours=48),
                        then=condition_pb2.CONDITION_THEN_SKIP,
                    ),
                ],
            ),
        ],
    )
    definition.max_lateness.FromSeconds(6 * 3600)

    trial = apply(definition, validate_only=True)
    checks.equal("validate_only names what would be added", list(trial.changes.added_keys),
                 [f"PY-{run}-MAIL", "reminder"])
    applied = apply(definition)
    checks.that("ApplyTimeline creates, so validate_only stored nothing", applied.created)
    stored = applied.timeline
    checks.equal("an action's key is the campaign's id by default", stored.definition.actions[0].key, f"PY-{run}-MAIL")
    checks.equal("conditions come back as they were sent", list(stored.definition.actions[1].conditions),
                 list(definition.actions[1].conditions))
    read = client.timelines.GetTimeline(timeline_service_pb2.GetTimelineRequest(slug=f"py-{run}"))
    checks.equal("GetTimeline by slug reads what was stored", read.timeline, stored)

    again = apply(stored.definition, etag=stored.etag)
    checks.equal("what was read can be applied as it is, and changes nothing",
                 (again.created, list(again.changes.changed_keys), list(again.changes.changed_fields),
                  again.changes.unchanged_actions, again.timeline.etag),
                 (False, [], [], 2, stored.etag))

    bad = timeline_pb2.TimelineDefinition()
    bad.CopyFrom(definition)
    bad.slug = f"py-{run}-bad"
    bad.duration_days = 0
    bad.actions[0].delay_hours = 24
    bad.actions[1].channel = common_pb2.CHANNEL_PHONE
    bad.actions[1].conditions[0].ClearField("test")
    failure = checks.refused("ApplyTimeline with four mistakes", lambda: apply(bad), grpc.StatusCode.INVALID_ARGUMENT)
    for field in ("duration_days", "actions[0].delay_hours", "actions[1]", "actions[1].conditions[0]"):
        checks.that(f"ApplyTimeline with four mistakes: {field} is named", any(field in path for path in failure.fields),
                    failure.fields)
    checks.that("every mistake says how to mend it",
                all(violation.description for violation in failure.bad_request.field_violations))
    return stored


def check_start(client, checks, run, customer_id, timeline):
    from campaign.v1 import orchestrator_service_pb2, progress_pb2

    def start(**fields):
        request = orchestrator_service_pb2.StartTimelineRequest(
            customer_id=customer_id, timeline_id=timeline.timeline_id, **fields)
        return client.orchestrator.StartTimeline(request)

    started = start(request_id=f"start-{run}")
    progress = started.progress
    checks.equal("StartTimeline: the run is active on day 1",
                 (progress.status, progress.current_day, progress.duration_days),
                 (progress_pb2.PROGRESS_STATUS_ACTIVE, 1, 5))
    checks.that("StartTimeline: the day has a date", progress.day_date.year >= 2024, progress.day_date)
    checks.equal("StartTimeline again with the request id answers the same", start(request_id=f"start-{run}"), started)
    checks.refused("the request id with another request", lambda: start(request_id=f"start-{run}", start_day=2),
                   grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    failure = checks.refused("StartTimeline while a run is live", start, grpc.StatusCode.ALREADY_EXISTS, "RUN_IS_LIVE")
    live = str(progress.progress_id)
    checks.that("StartTimeline while a run is live: the run is named for programs",
                live in failure.info.metadata.values(), dict(failure.info.metadata))
    failure = checks.refused(
        "StartTimeline beyond the last day", lambda: start(start_day=6), grpc.StatusCode.INVALID_ARGUMENT)
    checks.equal("StartTimeline beyond the last day: the field is named", failure.fields, ["start_day"])
    return progress.progress_id


def read_tick(checks, what, stream):
    """Reads a tick's stream to its end: any number of counts, then one summary."""
    updates = list(stream)
    kinds = [update.WhichOneof("update") for update in updates]
    checks.that(f"{what}: the summary comes once, at the end",
                kinds.count("summary") == 1 and kinds[-1] == "summary", kinds)
    return updates[-1].summary


def check_hourly_tick(client, checks, run, timeline_id):
    from campaign.v1 import common_pb2, tick_service_pb2

    def tick(what, **fields):
        request = tick_service_pb2.ProcessCampaignTimelinesRequest(timeline_ids=[timeline_id], **fields)
        return read_tick(checks, what, client.ticks.ProcessCampaignTimelines(request))

    def mails(summary):
        return [counts for counts in summary.counts.channels if counts.channel == common_pb2.CHANNEL_EMAIL]

    trial = tick("dry run", dry_run=True)
    checks.that("dry run: one mail would go", [counts.would_execute for counts in mails(trial)] == [1], trial)
    summary = tick("hourly tick", tick_id=f"hourly-{run}")
    checks.equal("hourly tick: its kind and name", (summary.kind, summary.tick_id),
                 (tick_service_pb2.TICK_KIND_PROCESS, f"hourly-{run}"))
    checks.that("hourly tick: one mail went", [counts.completed for counts in mails(summary)] == [1], summary)
    checks.that("hourly tick: nothing is left", not summary.has_more)
    checks.equal("the same tick again answers the same", tick("the same tick", tick_id=f"hourly-{run}"), summary)
    other = tick("another tick", tick_id=f"hourly-{run}-b")
    checks.that("another tick sends nothing again", not any(counts.completed for counts in other.counts.channels), other)

    ticks = client.ticks.ListTickRuns(tick_service_pb2.ListTickRunsRequest(kind=tick_service_pb2.TICK_KIND_PROCESS))
    checks.that("ListTickRuns shows the tick", any(
        listed.summary.tick_id == f"hourly-{run}" and listed.state == tick_service_pb2.TICK_STATE_FINISHED
        for listed in ticks.tick_runs))


def check_progress(client, checks, customer_id, progress_id):
    from campaign.v1 import orchestrator_service_pb2

    progress = client.orchestrator.GetProgress(
        orchestrator_service_pb2.GetProgressRequest(customer_id=customer_id)).progress
    checks.equal("GetProgress without an id finds the only live run", progress.progress_id, progress_id)
    checks.equal("GetProgress: the mail is completed",
                 [(done.action.day_number, done.attempts, done.content_revision)
                  for done in progress.completed_actions], [(1, 1, 1)])
    checks.that("GetProgress: the mail has its Message-ID", all("@" in done.provider_id for done in progress.completed_actions))
    checks.equal("GetProgress: nothing else happened",
                 (len(progress.skipped_actions), len(progress.failed_actions), len(progress.deferred_actions),
                  len(progress.in_flight_actions)), (0, 0, 0, 0))
    checks.equal("GetProgress: the reminder comes next", progress.next_action.action.key, "reminder")
    due = progress.next_action.due_time.ToDatetime()
    # 10:00 in New York, in winter or summer.
    checks.that("GetProgress: at ten o'clock of the customer", (due.hour, due.minute) in [(14, 0), (15, 0)], due)

    failure = checks.refused(
        "GetProgress of somebody else's run",
        lambda: client.orchestrator.GetProgress(orchestrator_service_pb2.GetProgressRequest(
            customer_id=customer_id[:-1] + "1", progress_id=progress_id)),
        grpc.StatusCode.NOT_FOUND,
    )
    checks.that("GetProgress of somebody else's run: the run is named", str(progress_id) in failure.message, failure.message)


def check_daily_tick(client, checks, run, timeline_id):
    from campaign.v1 import tick_service_pb2

    request = tick_service_pb2.AdvanceCampaignDaysRequest(tick_id=f"daily-{run}", timeline_ids=[timeline_id])
    summary = read_tick(checks, "daily tick", client.ticks.AdvanceCampaignDays(request))
    checks.equal("daily tick: its kind", summary.kind, tick_service_pb2.TICK_KIND_ADVANCE)
    # One, when the customer's midnight fell into this very run.
    checks.that("daily tick: the day isn't over", summary.counts.advanced_runs <= 1 and not summary.has_more, summary)
    checks.that("daily tick: it says when it ran", summary.start_time.seconds <= summary.end_time.seconds)


def check_pause_and_stop(client, checks, customer_id, progress_id):
    from campaign.v1 import orchestrator_service_pb2 as orchestrator
    from campaign.v1 import progress_pb2

    def of(request_type, **fields):
        return request_type(customer_id=customer_id, progress_id=progress_id, **fields)

    paused = client.orchestrator.PauseTimeline(of(orchestrator.PauseTimelineRequest, reason="on holiday"))
    checks.equal("PauseTimeline", (paused.progress.status, paused.progress.status_reason),
                 (progress_pb2.PROGRESS_STATUS_PAUSED, "on holiday"))
    failure = checks.refused("PauseTimeline of a paused run",
                             lambda: client.orchestrator.PauseTimeline(of(orchestrator.PauseTimelineRequest)),
                             grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_ACTIVE")
    checks.that("PauseTimeline of a paused run: it says which call helps", "ResumeTimeline" in failure.message, failure.message)
    resumed = client.orchestrator.ResumeTimeline(of(orchestrator.ResumeTimelineRequest))
    checks.equal("ResumeTimeline", resumed.progress.status, progress_pb2.PROGRESS_STATUS_ACTIVE)
    stopped = client.orchestrator.StopTimeline(of(orchestrator.StopTimelineRequest, reason="done"))
    checks.equal("StopTimeline", stopped.progress.status, progress_pb2.PROGRESS_STATUS_STOPPED)
    listed = client.orchestrator.ListProgress(orchestrator.ListProgressRequest(customer_id=customer_id))
    checks.equal("ListProgress shows the stopped run", [run.status for run in listed.progress],
                 [progress_pb2.PROGRESS_STATUS_STOPPED])


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Walks through the contract as a client that was made from an older one and not made anew since.

All that it knows is in older.binpb, the contract as it was at commit b436e3f: nothing is read of `proto/`. Its messages and
calls are made from there when it runs. It was made by

    buf build '.git#ref=b436e3f,subdir=proto' --exclude-source-info --output tests/clients/python/older.binpb

No field and no call that it knows was taken away or changed. Some mean more by now, and it checks what the first two come to:
a campaign without a kind, which it can't say, is marketing, so a mail needs a link to unsubscribe and a postal address; a task
is complete when somebody reports it, no longer when it was handed over; text messages and calls wait for the morning; and
variables that there are not, text messages of more than three segments and premium numbers are refused.

    python3 -m pip install -r tests/clients/python/requirements.txt
    python3 tests/clients/python/older.py --server 127.0.0.1:50051
"""

import argparse
import datetime
import pathlib
import sys
import uuid

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from run import Checks, wait_for_server

IMAGE = pathlib.Path(__file__).with_name("older.binpb")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--server", default="127.0.0.1:50051", help="host:port")
    arguments.add_argument("--wait", type=float, default=30, help="seconds until the server must be there")
    options = arguments.parse_args()

    checks = Checks()
    with grpc.insecure_channel(options.server) as channel:
        wait_for_server(channel, options)
        run_scenario(OlderClient(channel), checks)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


class OlderClient:
    """Calls by name, with the messages of the older contract."""

    def __init__(self, channel):
        self._channel = channel
        # A pool of its own: the default one has today's files of Google.
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(IMAGE.read_bytes()).file:
            self._pool.Add(file)

    def call(self, service, name, **fields):
        """The response, or all responses where they are streamed."""
        method = self._pool.FindServiceByName(f"campaign.v1.{service}").FindMethodByName(name)
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        response = message_factory.GetMessageClass(method.output_type)
        calls = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        call = calls(f"/{method.containing_service.full_name}/{name}", type(request).SerializeToString, response.FromString)
        return list(call(request, timeout=60)) if method.server_streaming else call(request, timeout=60)

    def value(self, enum, name):
        """The number of an enum's value."""
        return self._pool.FindEnumTypeByName(f"campaign.v1.{enum}").values_by_name[name].number

    def numbers(self, enum):
        """All that it knows."""
        return self._pool.FindEnumTypeByName(f"campaign.v1.{enum}").values_by_number


def run_scenario(client, checks):
    # Names of this run alone.
    run = f"older-{uuid.uuid4().hex[:12]}"
    customer_ids = check_customers(client, checks, run)
    check_mail_without_kind(client, checks, run)
    timeline_id = check_timeline(client, checks, run)
    check_start(client, checks, run, customer_ids[0], timeline_id)
    check_tick(client, checks, run, timeline_id)
    check_progress(client, checks, customer_ids[0])
    check_stop(client, checks, customer_ids[0])


def zone_at_noon():
    """A zone in which it is between noon and one o'clock, when text messages may go."""
    ahead = 12 - datetime.datetime.now(datetime.timezone.utc).hour
    # The signs of these names are the other way round.
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/UTC"


def check_customers(client, checks, run):
    customers = [
        {
            "customer_id": f"{run}-{number}",
            "display_name": f"Customer {number}",
            "email": f"customer-{number}@example.com",
            "phone": "+14155552671",
            "time_zone": zone_at_noon(),
            "pipeline_stage": run,
        }
        for number in range(5)
    ]
    ids = [customer["customer_id"] for customer in customers]
    upserted = client.call("CustomerService", "UpsertCustomers", customers=customers)
    checks.equal("UpsertCustomers stores all", [result.customer.customer_id for result in upserted.results], ids)

    pages = []
    token = ""
    while token or not pages:
        page = client.call("CustomerService", "ListCustomers", pipeline_stage=run, page_size=2, page_token=token)
        pages.append([customer.customer_id for customer in page.customers])
        token = page.next_page_token
    checks.equal("ListCustomers: three pages, by id", pages, [ids[:2], ids[2:4], ids[4:]])
    failure = checks.refused("GetCustomer of nobody",
                             lambda: client.call("CustomerService", "GetCustomer", customer_id=f"{run}-nobody"),
                             grpc.StatusCode.NOT_FOUND, "CUSTOMER_NOT_FOUND")
    checks.equal("GetCustomer of nobody: the customer is named", failure.info.metadata["customer_id"], f"{run}-nobody")
    return ids


def check_mail_without_kind(client, checks, run):
    def apply(text_body):
        campaign = {"campaign_id": f"{run}-mail", "subject": "Welcome", "text_body": text_body}
        return client.call("CampaignContentService", "ApplyCampaign", campaign=campaign)

    failure = checks.refused("a mail without a kind, link and address", lambda: apply("Hello {{ customer.name }}"),
                             grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    said = [violation.description for violation in failure.bad_request.field_violations]
    for missing in ("links.unsubscribe", "sender.postal_address"):
        checks.that(f"a mail without a kind: {missing} is asked for", any(missing in text for text in said), said)
    applied = apply("Hello {{ customer.name }}\n{{ links.unsubscribe }}\n{{ sender.postal_address }}")
    checks.that("a mail without a kind that has both is stored", applied.created)


def check_timeline(client, checks, run):
    for content in ({"campaign_id": f"{run}-sms", "sms_text": "Hello {{ customer.name }}"},
                    {"campaign_id": f"{run}-task", "subject": "Call back"}):
        client.call("CampaignContentService", "ApplyCampaign", campaign=content)
    definition = {
        "slug": run,
        "name": "From an older client",
        "pipeline_stage": run,
        "duration_days": 5,
        "is_active": True,
        "actions": [
            {"day_number": 1, "priority": 1, "channel": "CHANNEL_SMS", "action_type": "ACTION_TYPE_SEND_SMS",
             "campaign_id": f"{run}-sms"},
            {"day_number": 1, "priority": 2, "channel": "CHANNEL_INTERACTION", "action_type": "ACTION_TYPE_CREATE_TASK",
             "campaign_id": f"{run}-task"},
            {"key": "pause", "day_number": 3, "channel": "CHANNEL_WAIT", "action_type": "ACTION_TYPE_WAIT",
             "conditions": [{"email_opened": {"within_hours": 48}, "then": "CONDITION_THEN_SKIP"}]},
        ],
    }
    applied = client.call("CampaignTimelineService", "ApplyTimeline", timeline=definition)
    checks.that("ApplyTimeline creates", applied.created)
    read = client.call("CampaignTimelineService", "GetTimeline", slug=run).timeline
    checks.equal("GetTimeline reads what was stored", read, applied.timeline)
    again = client.call("CampaignTimelineService", "ApplyTimeline", timeline=read.definition, etag=read.etag)
    checks.equal("what was read can be applied as it is, and changes nothing",
                 (again.changes.unchanged_actions, again.timeline.etag), (3, read.etag))
    return read.timeline_id


def check_start(client, checks, run, customer_id, timeline_id):
    def start(**fields):
        return client.call("CampaignOrchestratorService", "StartTimeline", customer_id=customer_id,
                           timeline_id=timeline_id, **fields)

    started = start(request_id=f"{run}-start")
    checks.equal("StartTimeline: the run is active on day 1",
                 (started.progress.status, started.progress.current_day),
                 (client.value("ProgressStatus", "PROGRESS_STATUS_ACTIVE"), 1))
    checks.equal("StartTimeline again with the request id answers the same", start(request_id=f"{run}-start"), started)
    failure = checks.refused("StartTimeline while a run is live", start, grpc.StatusCode.ALREADY_EXISTS, "RUN_IS_LIVE")
    checks.equal("StartTimeline while a run is live: the run is named", failure.info.metadata["progress_id"],
                 str(started.progress.progress_id))
    failure = checks.refused("StartTimeline beyond the last day", lambda: start(start_day=6),
                             grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    checks.equal("StartTimeline beyond the last day: the field is named", failure.fields, ["start_day"])


def check_tick(client, checks, run, timeline_id):
    updates = client.call("CampaignTickService", "ProcessCampaignTimelines", tick_id=run, timeline_ids=[timeline_id])
    checks.equal("hourly tick: the summary comes last", updates[-1].WhichOneof("update"), "summary")
    sms = client.value("Channel", "CHANNEL_SMS")
    completed = [counts.completed for counts in updates[-1].summary.counts.channels if counts.channel == sms]
    checks.equal("hourly tick: one text message went", completed, [1])


def check_progress(client, checks, customer_id):
    progress = client.call("CampaignOrchestratorService", "GetProgress", customer_id=customer_id).progress
    checks.equal("GetProgress: the text message is completed",
                 [done.action.channel for done in progress.completed_actions], [client.value("Channel", "CHANNEL_SMS")])
    waiting = [(deferred.action.channel, deferred.reason in client.numbers("DeferReason"))
               for deferred in progress.deferred_actions]
    checks.equal("GetProgress: the task waits, for a reason that the older contract doesn't name", waiting,
                 [(client.value("Channel", "CHANNEL_INTERACTION"), False)])
    checks.equal("GetProgress: the wait comes next", progress.next_action.action.key, "pause")


def check_stop(client, checks, customer_id):
    listed = client.call("CampaignOrchestratorService", "ListProgress", customer_id=customer_id).progress
    stopped = client.call("CampaignOrchestratorService", "StopTimeline", customer_id=customer_id,
                          progress_id=listed[0].progress_id, reason="done").progress
    checks.equal("StopTimeline", (stopped.status, stopped.status_reason),
                 (client.value("ProgressStatus", "PROGRESS_STATUS_STOPPED"), "done"))


if __name__ == "__main__":
    sys.exit(main())

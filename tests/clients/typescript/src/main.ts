/**
 * Walks through the contract as a client in TypeScript would, against a server that runs, and ends with the first
 * difference. Everything is made under names that no run before used, so the server's database need not be empty.
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";

import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { ActionType, Channel } from "../gen/campaign/v1/common_pb.js";
import { CampaignKind } from "../gen/campaign/v1/content_pb.js";
import { CampaignContentService } from "../gen/campaign/v1/content_service_pb.js";
import { CustomerService } from "../gen/campaign/v1/customer_service_pb.js";
import { CampaignOrchestratorService } from "../gen/campaign/v1/orchestrator_service_pb.js";
import { type Progress, ProgressStatus } from "../gen/campaign/v1/progress_pb.js";
import { CampaignTickService } from "../gen/campaign/v1/tick_service_pb.js";
import type { Timeline } from "../gen/campaign/v1/timeline_pb.js";
import { CampaignTimelineService } from "../gen/campaign/v1/timeline_service_pb.js";
import { refused } from "./refused.js";

async function main(): Promise<void> {
  const { values: options } = parseArgs({ options: { server: { type: "string", default: "127.0.0.1:50051" } } });
  const transport = createGrpcTransport({
    baseUrl: `http://${options.server}`,
    // A deadline on every call, as every caller should have one.
    defaultTimeoutMs: 60_000,
  });

  // Names of this run alone.
  const run = `ts-${randomUUID().slice(0, 8)}`;
  const customerIds = await register(transport, run);
  const timeline = await apply(transport, run);
  const customerId = customerIds[0];
  assert(customerId);
  const progress = await start(transport, run, customerId, timeline.timelineId);
  await hitErrors(transport, run, progress);
  await tick(transport, run, timeline.timelineId);
  await readProgress(transport, progress);
  await readPages(transport, run, customerIds);
}

async function register(transport: Transport, run: string): Promise<string[]> {
  const customers = Array.from({ length: 7 }, (_, number) => ({
    customerId: `${run}-${number}`,
    displayName: `Customer ${number}`,
    email: `customer-${number}@example.com`,
    phone: "+14155552671",
    timeZone: "America/New_York",
    pipelineStage: run,
    attributes: { plan: "gold", seats: number },
  }));
  const { results } = await createClient(CustomerService, transport).upsertCustomers({ customers });
  // Each customer has a result of its own: the stored customer, or an error.
  for (const { result, created } of results) {
    assert.equal(result.case, "customer");
    assert(created);
  }
  assert.equal(results.length, customers.length);
  console.log(`registered ${results.length} customers`);
  return customers.map((customer) => customer.customerId);
}

async function apply(transport: Transport, run: string): Promise<Timeline> {
  const content = createClient(CampaignContentService, transport);
  const kind = CampaignKind.TRANSACTIONAL;
  await content.applyCampaign({
    campaign: { campaignId: `${run}-mail`, kind, subject: "Welcome, {{ customer.name }}", textBody: "Day {{ day }}." },
  });
  await content.applyCampaign({ campaign: { campaignId: `${run}-sms`, kind, smsText: "Hello {{ customer.name }}" } });

  const { timeline, created } = await createClient(CampaignTimelineService, transport).applyTimeline({
    timeline: {
      slug: run,
      name: "From TypeScript",
      pipelineStage: run,
      durationDays: 5,
      isActive: true,
      actions: [
        { dayNumber: 1, channel: Channel.EMAIL, actionType: ActionType.SEND_EMAIL, campaignId: `${run}-mail` },
        {
          key: "reminder",
          dayNumber: 3,
          delayHours: 10,
          channel: Channel.SMS,
          actionType: ActionType.SEND_SMS,
          campaignId: `${run}-sms`,
        },
      ],
    },
  });
  assert(timeline?.definition);
  assert(created);
  // An action's key is the campaign's id by default.
  assert.deepEqual(timeline.definition.actions.map((action) => action.key), [`${run}-mail`, "reminder"]);
  console.log(`applied two campaigns and the timeline ${run}`);
  return timeline;
}

async function start(transport: Transport, run: string, customerId: string, timelineId: bigint): Promise<Progress> {
  const orchestrator = createClient(CampaignOrchestratorService, transport);
  const request = { customerId, timelineId, requestId: `${run}-start` };
  const { progress } = await orchestrator.startTimeline(request);
  assert(progress);
  assert.deepEqual([progress.status, progress.currentDay], [ProgressStatus.ACTIVE, 1]);
  console.log(`started run ${progress.progressId}, on day 1 of ${progress.durationDays}`);

  // As after an answer that was lost: the same request with its id starts nothing, and has the same answer.
  const again = await orchestrator.startTimeline(request);
  assert.deepEqual(again.progress, progress);
  console.log(`started again with the same request_id: run ${again.progress?.progressId}`);
  return progress;
}

async function hitErrors(transport: Transport, run: string, progress: Progress): Promise<void> {
  const orchestrator = createClient(CampaignOrchestratorService, transport);
  const { customerId, timelineId } = progress;

  const live = await refused(orchestrator.startTimeline({ customerId, timelineId }), Code.AlreadyExists, "RUN_IS_LIVE");
  assert.equal(live.metadata["progress_id"], String(progress.progressId));

  const beyond = orchestrator.startTimeline({ customerId, timelineId, startDay: 6 });
  const invalid = await refused(beyond, Code.InvalidArgument, "INVALID_FIELDS");
  assert.deepEqual(invalid.fields.map((violation) => violation.field), ["start_day"]);

  const nobody = createClient(CustomerService, transport).getCustomer({ customerId: `${run}-nobody` });
  const missing = await refused(nobody, Code.NotFound, "CUSTOMER_NOT_FOUND");
  assert.equal(missing.metadata["customer_id"], `${run}-nobody`);
}

async function tick(transport: Transport, run: string, timelineId: bigint): Promise<void> {
  const ticks = createClient(CampaignTickService, transport);
  const summaries = [];
  // Any number of counts while it works, then one summary.
  for await (const { update } of ticks.processCampaignTimelines({ tickId: run, timelineIds: [timelineId] })) {
    if (update.case === "summary") {
      summaries.push(update.value);
    }
  }
  assert.equal(summaries.length, 1);
  const mails = summaries[0]?.counts?.channels.find((counts) => counts.channel === Channel.EMAIL);
  assert.equal(mails?.completed, 1n);
  console.log(`hourly tick: ${mails.completed} mail sent`);
}

async function readProgress(transport: Transport, { customerId, progressId }: Progress): Promise<void> {
  const orchestrator = createClient(CampaignOrchestratorService, transport);
  const { progress } = await orchestrator.getProgress({ customerId, progressId });
  assert(progress);
  assert.deepEqual(progress.completedActions.map((done) => [done.action?.dayNumber, done.attempts]), [[1, 1]]);
  const next = progress.nextAction;
  assert.equal(next?.action?.key, "reminder");
  assert(next.dueTime);
  console.log(`progress: 1 action completed, then ${next.action.key} at ${timestampDate(next.dueTime).toISOString()}`);
}

async function readPages(transport: Transport, run: string, customerIds: string[]): Promise<void> {
  const customers = createClient(CustomerService, transport);
  const pages: string[][] = [];
  let pageToken = "";
  do {
    const page = await customers.listCustomers({ pipelineStage: run, pageSize: 3, pageToken });
    pages.push(page.customers.map((customer) => customer.customerId));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  assert.deepEqual(pages.map((page) => page.length), [3, 3, 1]);
  assert.deepEqual(pages.flat(), customerIds);
  console.log(`listed ${customerIds.length} customers on ${pages.length} pages`);
}

await main();

// Calls a server that runs over gRPC-Web, as a page in a browser would: with fetch, over HTTP/1.1, from an origin.
//
// The client is made of the descriptors of the contract when it starts; nothing is generated.
//
//   buf build proto --as-file-descriptor-set -o contract.binpb
//   node run.mjs http://127.0.0.1:50051 contract.binpb
//
// Each check is printed; the exit code is not 0 when one failed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const [server, contract] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(contract)));
const service = (name) => registry.getService(`campaign.v1.${name}`);
const transport = createGrpcWebTransport({ baseUrl: server });
const customers = createClient(service("CustomerService"), transport);
const ticks = createClient(service("CampaignTickService"), transport);

const customerId = `web-${process.pid}-${Date.now()}`;

await check("a customer is stored and read", async () => {
  const stored = await customers.upsertCustomers({ customers: [{ customerId, displayName: "Zoë" }] });
  assert.equal(stored.results.length, 1);
  const { customer } = await customers.getCustomer({ customerId });
  assert.equal(customer.displayName, "Zoë");
});

await check("an error has its code, its text and its details", async () => {
  const error = await refused(customers.getCustomer({ customerId: `${customerId}-not` }));
  assert.equal(error.code, Code.NotFound);
  assert.match(error.rawMessage, /not found/);
  const [info] = error.findDetails(registry.getMessage("google.rpc.ErrorInfo"));
  assert.equal(info.reason, "CUSTOMER_NOT_FOUND");
});

await check("a stream is read to its end", async () => {
  let summary;
  for await (const { update } of ticks.processCampaignTimelines({ dryRun: true })) {
    if (update.case === "summary") summary = update.value;
  }
  assert.equal(summary.dryRun, true);
});

await check("a call ends in time", async () => {
  const error = await refused(customers.listCustomers({}, { timeoutMs: 1 }));
  assert.equal(error.code, Code.DeadlineExceeded);
});

await check("a page of an origin that is not allowed is refused", async () => {
  const fetchAs = (input, init) => fetch(input, { ...init, headers: { ...Object.fromEntries(init.headers), origin: "https://evil.example" } });
  const foreign = createClient(service("CustomerService"), createGrpcWebTransport({ baseUrl: server, fetch: fetchAs }));
  const error = await refused(foreign.getCustomer({ customerId }));
  assert.equal(error.code, Code.PermissionDenied);
});

async function refused(call) {
  try {
    await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  assert.fail("it is not refused");
}

async function check(what, body) {
  try {
    await body();
    console.log(`ok      ${what}`);
  } catch (error) {
    console.log(`FAILED  ${what}: ${error.stack}`);
    process.exitCode = 1;
  }
}

/** Errors, and the details that they carry for programs. */

import assert from "node:assert/strict";

import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";

/** What an error says beside its code and its message. */
export interface Refusal {
  /** What the error is about, by name, such as `progress_id`. */
  metadata: Record<string, string>;
  /** The fields of the request that are wrong, and how. */
  fields: { field: string; description: string }[];
}

/** Expects that the call is refused with this code and reason. */
export async function refused(call: Promise<unknown>, code: Code, reason: string): Promise<Refusal> {
  const error = await call.then(
    () => assert.fail(`no error at all, expected ${reason}`),
    (cause: unknown) => ConnectError.from(cause),
  );
  const info = error.findDetails(ErrorInfoSchema)[0];
  assert.deepEqual([error.code, info?.domain, info?.reason], [code, "campaign.v1", reason], error.message);
  console.log(`refused: ${reason}: ${error.rawMessage}`);
  const fields = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  return { metadata: info?.metadata ?? {}, fields };
}

import { parseWith } from '@flowpost/core';
import { z } from 'zod';

const record = z.record(z.string(), z.unknown());

/** The data of a running flow, as every dialect sees it. */
export const flowDataSchema = z.strictObject({
  /** What came in with this turn of the flow. */
  input: record.default({}),
  /** What the flow remembers. */
  context: record.default({}),
  variables: record.default({}),
  /** What started the flow, such as an incoming e-mail. */
  trigger: record.optional(),
});

export type FlowData = z.output<typeof flowDataSchema>;
export type FlowDataInput = z.input<typeof flowDataSchema>;

/** @throws MailError `INPUT_INVALID`. */
export function parseFlowData(data: unknown): FlowData {
  return parseWith(flowDataSchema, data ?? {});
}

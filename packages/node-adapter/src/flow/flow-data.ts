import { formatAddress, isMailError, parseAddresses, parseWith } from '@flowpost/core';
import type { MailTrigger } from '@flowpost/transport';
import { z } from 'zod';

const record = z.record(z.string(), z.unknown());

/** The data of a running flow, as every dialect sees it. */
export const flowDataSchema = z.strictObject({
  /** What came in with this turn of the flow. */
  input: record.default({}),
  /** What the flow remembers. */
  context: record.default({}),
  variables: record.default({}),
  /**
   * What started the flow. For an incoming e-mail: `kind` "email", `from` as it stands there, and `headers` by name, which
   * is what the loop guard goes by.
   */
  trigger: record.optional(),
});

export type FlowData = z.output<typeof flowDataSchema>;
export type FlowDataInput = z.input<typeof flowDataSchema>;

/** @throws MailError `INPUT_INVALID`. */
export function parseFlowData(data: unknown): FlowData {
  return parseWith(flowDataSchema, data ?? {});
}

/** An address in whatever form a host has it; what cannot be read stays text, in which the guard looks for addresses. */
function addressText(value: unknown): string {
  if (typeof value === 'string') return value;
  try {
    return parseAddresses(value as Parameters<typeof parseAddresses>[0])
      .map(formatAddress)
      .join(', ');
  } catch (error) {
    if (!isMailError(error)) throw error;
    return JSON.stringify(value) ?? '';
  }
}

function headerValue(value: unknown): string | string[] {
  return Array.isArray(value) ? value.map(String) : String(value);
}

/** The e-mail that started the flow; undefined when something else did. */
export function mailTrigger({ trigger }: FlowData): MailTrigger | undefined {
  if (typeof trigger?.kind !== 'string' || trigger.kind.toLowerCase() !== 'email') return undefined;
  const headers = Object.entries((trigger.headers ?? {}) as Record<string, unknown>).filter(
    ([, value]) => value !== undefined && value !== null,
  );
  const named = headers.find(([name]) => name.toLowerCase() === 'from')?.[1];
  return {
    from: [trigger.from, named]
      .filter((one) => one !== undefined && one !== null)
      .map(addressText)
      .join(', '),
    headers: Object.fromEntries(headers.map(([name, value]) => [name, headerValue(value)])),
  };
}

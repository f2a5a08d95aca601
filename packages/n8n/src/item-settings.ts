import { type Connection, isMediaType, MailError } from '@flowpost/core';
import { connectionOfForm, readJsonField } from '@flowpost/node-adapter';
import type { IBinaryData, IExecuteFunctions } from 'n8n-workflow';
import { holdsData, messageFields, optionFields } from './form.ts';
import { mailServer } from './mail-server.ts';

/** A file as n8n has it, which an expression may give instead of the name of its property. */
const isBinary = (value: unknown): value is IBinaryData =>
  typeof value === 'object' && value !== null && 'mimeType' in value && !('kind' in value);

/** @throws MailError `ATTACHMENT_NOT_FOUND`. */
async function readBinary(context: IExecuteFunctions, index: number, given: string | IBinaryData) {
  try {
    const { fileName, mimeType } = context.helpers.assertBinaryData(index, given);
    return {
      kind: 'bytes',
      content: await context.helpers.getBinaryDataBuffer(index, given),
      // Without a name, what it is called in the item.
      filename: fileName || (typeof given === 'string' ? given : undefined),
      contentType: isMediaType(mimeType) ? mimeType : undefined,
    };
  } catch (cause) {
    const what =
      typeof given === 'string' ? `file in ${JSON.stringify(given)}` : 'file as the expression says';
    const hint =
      'Check the name of the binary property, and that the node before hands it on. Nothing was sent.';
    throw new MailError('ATTACHMENT_NOT_FOUND', `Item ${index} has no ${what}.`, { hint, cause });
  }
}

/** Names of binary properties with commas between, such a name, a file, an attachment, or a list of these. */
async function readAttachments(context: IExecuteFunctions, index: number, given: unknown) {
  if (given === undefined || given === null) return [];
  const value = typeof given === 'string' && !/^\s*[[{]/.test(given) ? given : (readJsonField(given) ?? []);
  const names = (text: string): string[] => text.split(',').flatMap((name) => name.trim() || []);
  const all = [value].flat().flatMap((one) => (typeof one === 'string' ? names(one) : [one]));
  const isFile = (one: unknown): one is string | IBinaryData => typeof one === 'string' || isBinary(one);
  return Promise.all(all.map((one) => (isFile(one) ? readBinary(context, index, one) : one)));
}

/** What n8n says of an expression or a credential is the author's to mend. */
function mistake(
  code: 'DYNAMIC_FIELD_INVALID' | 'CONNECTION_INVALID',
  what: string,
  cause: unknown,
): MailError {
  const { message = String(cause), description } = (cause ?? {}) as {
    message?: string;
    description?: unknown;
  };
  const hint = typeof description === 'string' && description !== '' ? { hint: description } : {};
  return new MailError(code, `${what}: ${message.slice(0, 500)}`, { ...hint, cause });
}

/** A date as text; n8n makes text of those within objects itself. */
function withoutDates(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDates);
  if (value instanceof Date) return value.toISOString();
  const { toISO } = (value ?? {}) as { toISO?: unknown };
  return typeof toISO === 'function' ? toISO.call(value) : value;
}

/** @throws MailError `DYNAMIC_FIELD_INVALID`. */
function readParameter(
  context: IExecuteFunctions,
  name: string,
  index: number,
  missing: '' | object,
): unknown {
  try {
    return withoutDates(context.getNodeParameter(name, index, missing));
  } catch (thrown) {
    throw mistake('DYNAMIC_FIELD_INVALID', `The field ${name} cannot be worked out`, thrown);
  }
}

/** @throws MailError `CONNECTION_INVALID`. */
async function readConnection(context: IExecuteFunctions, index: number): Promise<Connection> {
  const values = await context.getCredentials(mailServer, index).catch((thrown) => {
    throw mistake('CONNECTION_INVALID', 'The credential cannot be used', thrown);
  });
  return connectionOfForm(values);
}

/**
 * The settings of `send-email` for one item: n8n has worked out the expressions.
 *
 * @throws MailError `DYNAMIC_FIELD_INVALID`, `CONNECTION_INVALID`, `ATTACHMENT_NOT_FOUND`.
 */
export async function itemSettings(
  context: IExecuteFunctions,
  index: number,
): Promise<Record<string, unknown>> {
  const settings: Record<string, unknown> = {};
  for (const { name } of messageFields) settings[name] = readParameter(context, name, index, '');
  for (const [name, value] of Object.entries(readParameter(context, 'options', index, {}) as object))
    settings[name] = withoutDates(value);
  for (const { name } of optionFields.filter(holdsData)) settings[name] = readJsonField(settings[name]);
  settings.attachments = await readAttachments(context, index, settings.attachments);
  settings.connection = await readConnection(context, index);
  return settings;
}

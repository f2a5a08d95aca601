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
  const what = typeof given === 'string' ? `file in ${JSON.stringify(given)}` : 'file as the expression says';
  let found: IBinaryData;
  try {
    found = context.helpers.assertBinaryData(index, given);
  } catch (cause) {
    const hint =
      'Check the name of the binary property, and that the node before hands it on. Nothing was sent.';
    throw new MailError('ATTACHMENT_NOT_FOUND', `Item ${index} has no ${what}.`, { hint, cause });
  }
  const { fileName, mimeType } = found;
  const content = await context.helpers.getBinaryDataBuffer(index, given).catch((cause) => {
    const { message } = wordsOf(cause);
    throw new MailError('ATTACHMENT_UNREADABLE', `Item ${index}: the ${what} cannot be read: ${message}`, {
      hint: 'n8n cannot give what it stored. Nothing was sent; run the workflow again from where the file comes from.',
      retryable: true,
      cause,
    });
  });
  return {
    kind: 'bytes',
    content,
    // Without a name, what it is called in the item.
    filename: fileName || (typeof given === 'string' ? given : undefined),
    contentType: isMediaType(mimeType) ? mimeType : undefined,
  };
}

/** What begins as JSON does: a list or an object. */
const beginsAsJson = (value: unknown): boolean => typeof value === 'string' && /^\s*[[{]/.test(value);

/**
 * The value of a field that holds data.
 *
 * @throws MailError `DYNAMIC_FIELD_INVALID` for text that begins as JSON and is none.
 */
function dataOf(name: string, value: unknown): unknown {
  const read = readJsonField(value);
  if (beginsAsJson(read)) {
    throw new MailError('DYNAMIC_FIELD_INVALID', `The field ${name} is not JSON, though it begins so.`, {
      hint: `Correct the field "${name}" of the node: quotes, commas and brackets. Nothing was sent.`,
      details: { field: name },
    });
  }
  return read;
}

/** Names of binary properties with commas between, such a name, a file, an attachment, or a list of these. */
async function readAttachments(context: IExecuteFunctions, index: number, given: unknown) {
  if (given === undefined || given === null) return [];
  const value =
    typeof given === 'string' && !beginsAsJson(given) ? given : (dataOf('attachments', given) ?? []);
  const names = (text: string): string[] => text.split(',').flatMap((name) => name.trim() || []);
  const all = [value].flat().flatMap((one) => (typeof one === 'string' ? names(one) : [one]));
  const isFile = (one: unknown): one is string | IBinaryData => typeof one === 'string' || isBinary(one);
  return Promise.all(all.map((one) => (isFile(one) ? readBinary(context, index, one) : one)));
}

/** What n8n says of a failure, in its own two parts. */
function wordsOf(thrown: unknown): { readonly message: string; readonly description: string } {
  const { message = String(thrown), description } = (thrown ?? {}) as {
    message?: string;
    description?: unknown;
  };
  return {
    message: message.slice(0, 500),
    description: typeof description === 'string' ? `${description} ` : '',
  };
}

/** A date as text; n8n makes text of those within objects itself. */
function withoutDates(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDates);
  if (value instanceof Date) return value.toISOString();
  const { toISO } = (value ?? {}) as { toISO?: () => unknown };
  if (typeof toISO !== 'function') return value;
  const text = toISO.call(value);
  if (typeof text !== 'string') throw new RangeError('it is no date');
  return text;
}

/**
 * A value that an expression makes.
 *
 * @throws MailError `DYNAMIC_FIELD_INVALID`.
 */
function worked(name: string, read: () => unknown): unknown {
  try {
    return withoutDates(read());
  } catch (cause) {
    const { message, description } = wordsOf(cause);
    throw new MailError('DYNAMIC_FIELD_INVALID', `The field ${name} cannot be worked out: ${message}`, {
      hint: `${description}Correct the expression in the field "${name}" of the node. Nothing was sent.`,
      details: { field: name },
      cause,
    });
  }
}

/** @throws MailError `CONNECTION_INVALID`. */
async function readConnection(context: IExecuteFunctions, index: number): Promise<Connection> {
  const values = await context.getCredentials(mailServer, index).catch((cause) => {
    const { message, description } = wordsOf(cause);
    throw new MailError('CONNECTION_INVALID', `The credential cannot be used: ${message}`, {
      hint: `${description}Choose a credential "Flowpost Mail Server" in the node. Nothing was sent.`,
      cause,
    });
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
  for (const { name } of messageFields)
    settings[name] = worked(name, () => context.getNodeParameter(name, index, ''));
  const options = worked('options', () => context.getNodeParameter('options', index, {})) as object;
  for (const [name, value] of Object.entries(options)) settings[name] = worked(name, () => value);
  // n8n has no number that is empty: an option that was just added is 0.
  if (settings.timeoutMs === 0) settings.timeoutMs = undefined;
  for (const { name } of optionFields.filter(holdsData)) settings[name] = dataOf(name, settings[name]);
  // Who adds a sandbox and leaves it empty would send to everybody.
  if ('sandbox' in options) settings.sandbox ||= {};
  settings.attachments = await readAttachments(context, index, settings.attachments);
  settings.connection = await readConnection(context, index);
  return settings;
}

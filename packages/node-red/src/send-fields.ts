import { types } from 'node:util';
import { MailError } from '@flowpost/core';
import { type NodeField, type NodeSection, readJsonField, sendEmailNode } from '@flowpost/node-adapter';
import type { FlowMessage, NodeProperties, Runtime, RuntimeNode } from './runtime.ts';

/** What Node-RED has a way of its own for: config nodes, the message, and when a node is done. */
const nodeRedsOwn = new Set(['connection', 'store', 'async']);

/** The form of the node: that of `send-email`, without what Node-RED does in a way of its own. */
export const sendSections: readonly NodeSection[] = sendEmailNode.sections
  .map(({ title, fields }) => ({ title, fields: fields.filter(({ name }) => !nodeRedsOwn.has(name)) }))
  .filter(({ fields }) => fields.length > 0);

const fields = sendSections.flatMap((section) => section.fields);

/**
 * What comes out of the message, under the names that other nodes use, unless its author chooses otherwise. Not From and Cc: in a
 * message of the node "email in" those are of other people.
 */
const usualProperties: Readonly<Record<string, string>> = {
  ...{ to: 'to', subject: 'topic', text: 'payload', html: 'html', attachments: 'attachments' },
};

function invalid(name: string, type: string, cause: unknown): MailError {
  const reason = (cause as Error | undefined)?.message ?? String(cause);
  const text = `The field ${name} cannot be worked out: ${reason.slice(0, 200)}.`;
  return new MailError('DYNAMIC_FIELD_INVALID', text, {
    hint: `Correct the field ${name} of the node (${type}), or the message it takes its value from. Nothing was sent.`,
    details: { field: name },
    cause,
  });
}

/** Where the value of a field is from when nobody has chosen otherwise. */
export const usualSource = (name: string): { readonly value: string; readonly type: string } | undefined => {
  const value = usualProperties[name];
  return value === undefined ? undefined : { value, type: 'msg' };
};

/** Fields that hold data, which no text is. */
const holdsData = ({ widget }: NodeField): boolean => ['object', 'headers', 'attachments'].includes(widget);

/** Where an author may choose a value from, the usual first. */
export const sourcesOf = (field: NodeField): readonly string[] =>
  holdsData(field)
    ? ['json', 'msg', 'flow', 'global', 'jsonata', 'env']
    : ['str', 'msg', 'flow', 'global', 'json', 'jsonata', 'env'];

const isBytes = (value: unknown): value is Uint8Array => types.isUint8Array(value);

/** An attachment as nodes of Node-RED hand it over, which is as nodemailer takes it. */
function readAttachment(given: unknown): unknown {
  if (isBytes(given)) return { kind: 'bytes', content: given };
  if (typeof given !== 'object' || given === null || 'kind' in given) return given;
  const { filename, content, contentType, cid, contentId, encoding, raw, path, href } = given as Record<
    string,
    unknown
  >;
  // "email in" has both, the one as it stands in the header.
  const inline = cid ?? contentId;
  const common = Object.fromEntries(
    Object.entries({
      filename,
      contentType,
      contentId: typeof inline === 'string' ? inline.replace(/^<|>$/g, '') : undefined,
    }).filter(([, value]) => value !== undefined && value !== false),
  );
  if (raw !== undefined) return { kind: 'mime', raw, ...common };
  if (typeof content === 'string' && encoding === 'base64') return { kind: 'base64', content, ...common };
  if (typeof content === 'string' && typeof encoding === 'string' && Buffer.isEncoding(encoding))
    return { kind: 'bytes', content: Buffer.from(content, encoding), ...common };
  if (typeof content === 'string') return { kind: 'text', content, ...common };
  if (content !== undefined && content !== null) return { kind: 'bytes', content, ...common };
  const place = href ?? path;
  const url = typeof place === 'string' && /^\s*(?:https?|data):/i.test(place) ? place.trim() : undefined;
  return url !== undefined ? { kind: 'url', url, ...common } : { kind: 'file', path: place, ...common };
}

/**
 * A value as it is meant: other nodes put bytes and data where text is to be.
 *
 * @throws MailError `DYNAMIC_FIELD_INVALID` for data that cannot be written as JSON.
 */
function asMeant({ name, widget }: NodeField, value: unknown): unknown {
  if (value === undefined || value === null || value === '') return undefined;
  if (widget === 'attachments') return [value].flat().map(readAttachment);
  if (widget !== 'multiline' && widget !== 'html') return value;
  if (value === false) return undefined;
  if (isBytes(value)) return Buffer.from(value).toString('utf8');
  if (types.isDate(value)) return value.toISOString();
  if (typeof value !== 'object') return value;
  try {
    return JSON.stringify(value);
  } catch (cause) {
    throw invalid(name, 'msg', cause);
  }
}

interface AddressObject {
  readonly value: readonly { readonly address?: string; readonly group?: unknown }[];
}
const isAddressObject = (value: unknown): value is AddressObject =>
  typeof value === 'object' && value !== null && Array.isArray((value as Partial<AddressObject>).value);

/** Header fields as the parser behind "email in" has them: those of lists in one, an empty path as an address without any. */
function headerFields([name, value]: [string, unknown]): [string, unknown][] {
  if (name === 'list' && typeof value === 'object' && value !== null)
    return Object.keys(value).map((one) => [`list-${one}`, 'given']);
  const isEmpty =
    isAddressObject(value) && value.value.every(({ address = '', group }) => address === '' && !group);
  return [[name, isEmpty ? '<>' : value]];
}

/** What the header of a message has, and few other things called so. */
const mailFields = ['from', 'message-id', 'return-path', 'received'];

/** A message of the node "email in" has its header fields in `header`. */
export function triggerOf({ from, header }: FlowMessage): object | undefined {
  if (typeof header !== 'object' || header === null) return undefined;
  const entries: [string, unknown][] = types.isMap(header)
    ? [...header].map(([name, value]) => [String(name), value])
    : Object.entries(header);
  const isMail =
    typeof from === 'string' || entries.some(([name]) => mailFields.includes(name.toLowerCase()));
  if (!isMail) return undefined;
  const headers = Object.fromEntries(entries.flatMap(headerFields));
  return { kind: 'email', from: typeof from === 'string' ? from : '', headers };
}

/** The settings, and the values that they refer to as variables. */
interface Written {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly variables: Readonly<Record<string, unknown>>;
}

/** @throws MailError `DYNAMIC_FIELD_INVALID`. */
function evaluated(
  { util }: Runtime,
  node: RuntimeNode,
  { name, value, type }: { readonly name: string; readonly value: string; readonly type: string },
  message: FlowMessage,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    // What would stand within something that is not there is not there.
    const fail = (error: unknown): void =>
      type === 'msg' && error instanceof TypeError ? resolve(undefined) : reject(invalid(name, type, error));
    try {
      util.evaluateNodeProperty(value, type, node, message, (error, result) =>
        error ? fail(error) : resolve(result),
      );
    } catch (error) {
      fail(error);
    }
  });
}

/**
 * A text may hold expressions. What comes from anywhere else is a value and no text of the author, so it is referred to as a
 * variable, into which nobody looks.
 *
 * @throws MailError `DYNAMIC_FIELD_INVALID`.
 */
export async function writtenSettings(
  runtime: Runtime,
  node: RuntimeNode,
  properties: NodeProperties,
  message: FlowMessage,
): Promise<Written> {
  const settings: Record<string, unknown> = {};
  const variables: Record<string, unknown> = {};
  for (const field of fields) {
    const { name } = field;
    const usual = usualSource(name);
    const value = properties[name] ?? usual?.value;
    const usualType = (properties[name] === undefined ? usual?.type : undefined) ?? sourcesOf(field)[0];
    const type = String(properties[`${name}Type`] ?? usualType);
    // A field that was left empty.
    if (value === undefined || (typeof value === 'string' && value.trim() === '')) continue;
    if (typeof value !== 'string' || type === 'str') {
      settings[name] = value;
      continue;
    }
    const found = await evaluated(runtime, node, { name, value, type }, message);
    // What the environment has is text.
    const meant = asMeant(field, type === 'env' && holdsData(field) ? readJsonField(found) : found);
    if (meant === undefined) {
      // Who wants a sandbox and has none would send to everybody.
      if (name === 'sandbox') settings.sandbox = {};
      continue;
    }
    variables[name] = meant;
    settings[name] = { $variable: name };
  }
  return { settings, variables };
}

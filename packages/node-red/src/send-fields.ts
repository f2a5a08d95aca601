import { MailError } from '@flowpost/core';
import { type NodeSection, sendEmailNode } from '@flowpost/node-adapter';
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

/** Where the value of a field is from when nobody has chosen otherwise. */
export const usualSource = (name: string): { readonly value: string; readonly type: string } | undefined => {
  const value = usualProperties[name];
  return value === undefined ? undefined : { value, type: 'msg' };
};

/** An attachment as nodes of Node-RED hand it over, which is as nodemailer takes it. */
function readAttachment(given: unknown): unknown {
  if (typeof given !== 'object' || given === null || 'kind' in given) return given;
  const {
    filename,
    content,
    contentType,
    cid,
    contentId = cid,
    path,
    href,
  } = given as Record<string, unknown>;
  const common = Object.fromEntries(
    Object.entries({ filename, contentType, contentId }).filter(([, value]) => value !== undefined),
  );
  if (typeof content === 'string') return { kind: 'text', content, ...common };
  if (content !== undefined) return { kind: 'bytes', content, ...common };
  const place = href ?? path;
  const isUrl = typeof place === 'string' && /^(?:https?|data):/i.test(place);
  return isUrl ? { kind: 'url', url: place, ...common } : { kind: 'file', path: place, ...common };
}

const asAttachments = (value: unknown): unknown =>
  value === undefined || value === '' ? undefined : [value].flat().map(readAttachment);

/** A message of the node "email in" has its header fields in `header`. */
export function triggerOf({ from, header }: FlowMessage): object | undefined {
  if (typeof header !== 'object' || header === null) return undefined;
  const headers = header instanceof Map ? Object.fromEntries(header) : header;
  return { kind: 'email', from: typeof from === 'string' ? from : '', headers };
}

/** @throws MailError `DYNAMIC_FIELD_INVALID`. */
function evaluated(
  { util }: Runtime,
  node: RuntimeNode,
  { name, value, type }: { readonly name: string; readonly value: string; readonly type: string },
  message: FlowMessage,
): Promise<unknown> {
  const invalid = (cause: unknown): MailError => {
    const reason = (cause as Error | undefined)?.message ?? String(cause);
    const text = `The field ${name} cannot be worked out: ${reason.slice(0, 200)}.`;
    return new MailError('DYNAMIC_FIELD_INVALID', text, { details: { field: name }, cause });
  };
  return new Promise((resolve, reject) => {
    try {
      util.evaluateNodeProperty(value, type, node, message, (error, result) =>
        error ? reject(invalid(error)) : resolve(result),
      );
    } catch (error) {
      reject(invalid(error));
    }
  });
}

/** The settings, and the values that they refer to as variables. */
interface Written {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly variables: Readonly<Record<string, unknown>>;
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
  for (const { name } of fields) {
    const usual = usualSource(name);
    const value = properties[name] ?? usual?.value;
    const type =
      properties[`${name}Type`] ?? (properties[name] === undefined ? usual?.type : undefined) ?? 'str';
    if (typeof value !== 'string' || type === 'str') {
      if (value !== undefined && value !== '') settings[name] = value;
      continue;
    }
    const found = await evaluated(runtime, node, { name, value, type: String(type) }, message);
    const meant = name === 'attachments' ? asAttachments(found) : found;
    if (meant === undefined || meant === null) continue;
    variables[name] = meant;
    settings[name] = { $variable: name };
  }
  return { settings, variables };
}

import { isMediaType, MailError } from '@flowpost/core';
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
  const value = readJsonField(given);
  const names = (text: string): string[] => text.split(',').flatMap((name) => name.trim() || []);
  const all = [value].flat().flatMap((one) => (typeof one === 'string' ? names(one) : [one]));
  const isFile = (one: unknown): one is string | IBinaryData => typeof one === 'string' || isBinary(one);
  return Promise.all(all.map((one) => (isFile(one) ? readBinary(context, index, one) : one)));
}

/**
 * The settings of `send-email` for one item: n8n has worked out the expressions.
 *
 * @throws MailError `CONNECTION_INVALID`, `ATTACHMENT_NOT_FOUND`; whatever n8n throws for an expression.
 */
export async function itemSettings(
  context: IExecuteFunctions,
  index: number,
): Promise<Record<string, unknown>> {
  const settings: Record<string, unknown> = {};
  for (const { name } of messageFields) settings[name] = context.getNodeParameter(name, index, '');
  Object.assign(settings, context.getNodeParameter('options', index, {}));
  for (const { name } of optionFields.filter(holdsData)) settings[name] = readJsonField(settings[name]);
  settings.attachments = await readAttachments(context, index, settings.attachments);
  settings.connection = connectionOfForm(await context.getCredentials(mailServer, index));
  return settings;
}

/** Nodes that start a workflow with an e-mail. */
const mailTriggers: ReadonlySet<string> = new Set([
  'n8n-nodes-base.emailReadImap',
  'n8n-nodes-base.gmailTrigger',
  'n8n-nodes-base.microsoftOutlookTrigger',
]);

type Json = Readonly<Record<string, unknown>>;

/** The names of the nodes before this one that start a workflow with an e-mail. */
export const mailTriggersBefore = (context: IExecuteFunctions): readonly string[] =>
  context
    .getParentNodes(context.getNode().name)
    .flatMap(({ type, name }) => (mailTriggers.has(type) ? [name] : []));

/** The e-mail that started the workflow for an item, as those nodes hand it over. */
export function triggerOf(
  context: IExecuteFunctions,
  index: number,
  triggers: readonly string[],
): object | undefined {
  for (const name of triggers) {
    try {
      const { item, first } = context.getWorkflowDataProxy(index).$(name);
      const { from, From, headers, metadata } = ((item ?? first()) as { json: Json }).json;
      return { kind: 'email', from: from ?? From, headers: headers ?? metadata };
    } catch {
      // Another one has started it.
    }
  }
  return undefined;
}

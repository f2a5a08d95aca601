import type { IExecuteFunctions } from 'n8n-workflow';

/** Nodes that start a workflow with an e-mail. */
const mailTriggers: ReadonlySet<string> = new Set([
  'n8n-nodes-base.emailReadImap',
  'n8n-nodes-base.gmailTrigger',
  'n8n-nodes-base.microsoftOutlookTrigger',
]);

/** The names of the nodes before this one that start a workflow with an e-mail. */
export const mailTriggersBefore = (context: IExecuteFunctions): readonly string[] =>
  context
    .getParentNodes(context.getNode().name)
    .flatMap(({ type, name }) => (mailTriggers.has(type) ? [name] : []));

interface TriggerItem {
  readonly json: Readonly<Record<string, unknown>>;
}

/** Some hand over apart to whom answers go. */
const headersOf = ({ json: { headers, metadata, replyTo, sender } }: TriggerItem): [string, unknown][] => [
  ...Object.entries((headers ?? metadata ?? {}) as object),
  ['reply-to', replyTo],
  ['sender', sender],
];

/** An e-mail as those nodes hand it over. */
const mailOf = (item: TriggerItem): object => ({
  ...{ kind: 'email', from: item.json.from ?? item.json.From, headers: headersOf(item) },
});

/** All of several e-mails, of which nobody knows which one an item is from. Whether one of them was automatic says nothing then. */
const mailsOf = (items: readonly TriggerItem[]): object => ({
  kind: 'email',
  from: items.map(({ json: { from, From } }) => from ?? From),
  headers: items.flatMap(headersOf).filter(([name]) => /^(?:from|reply-to|sender)$/i.test(name)),
});

/** What started the workflow for an item, when it was e-mail. */
export function triggerOf(
  context: IExecuteFunctions,
  index: number,
  triggers: readonly string[],
): object | undefined {
  for (const name of triggers) {
    try {
      const node = context.getWorkflowDataProxy(index).$(name);
      try {
        return mailOf(node.item);
      } catch {
        // n8n cannot tell which item it is from.
        return mailsOf(node.all());
      }
    } catch {
      // Another one has started it.
    }
  }
  return undefined;
}

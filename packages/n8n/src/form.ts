import { type NodeField, sendEmailNode } from '@flowpost/node-adapter';
import type { INodeProperties } from 'n8n-workflow';

/** What n8n has a way of its own for: credentials, the item that goes on, "On Error", and when a node has ended. */
const n8nsOwn: ReadonlySet<string> = new Set(['connection', 'store', 'stopOnError', 'async']);

const sections = sendEmailNode.sections.map(({ title, fields }) => ({
  title,
  fields: fields.filter(({ name }) => !n8nsOwn.has(name)),
}));

const fieldsOf = (isShown: (title: string) => boolean): readonly NodeField[] =>
  sections.flatMap(({ title, fields }) => (isShown(title) ? fields : []));

/** What every message has, always shown. */
export const messageFields = fieldsOf((title) => title === 'Message');
/** What an author adds when it is wanted. */
export const optionFields = fieldsOf((title) => title !== 'Message');

/** Fields that hold data: JSON, or whatever an expression makes. */
export const holdsData = ({ widget }: NodeField): boolean => widget === 'object' || widget === 'headers';

function widgetOf({ widget, options, secret, default: given }: NodeField): Partial<INodeProperties> {
  switch (widget) {
    case 'select': {
      const choices = (options ?? []).map(({ value, label }) => ({ name: label, value }));
      return { type: 'options', options: choices, default: (given ?? choices[0]?.value ?? '') as string };
    }
    case 'checkbox':
      return { type: 'boolean', default: given === true };
    case 'number':
      return { type: 'number', default: (given ?? 0) as number };
    case 'object':
    case 'headers':
      return { type: 'json', default: '{}' };
    case 'html':
    case 'multiline':
      return { type: 'string', default: '', typeOptions: { rows: 5 } };
    default:
      return { type: 'string', default: '', ...(secret && { typeOptions: { password: true } }) };
  }
}

/** What a field takes that it does not take elsewhere. */
const ownHelp: Readonly<Record<string, string>> = {
  attachments:
    'Names of binary properties of the item, with commas between; or an expression that makes a list of such names and of attachments such as { "kind": "url", "url": "https://..." }',
  html: 'HTML as it is: escape what comes from strangers',
};

/** A field of a form as a parameter of a node, or of a credential. */
export function propertyOf(field: NodeField): INodeProperties {
  const { name, label, required, showWhen } = field;
  const help = ownHelp[name] ?? field.help;
  return {
    ...{ name, displayName: label, type: 'string', default: '', ...widgetOf(field) },
    ...(help !== undefined && { description: help }),
    ...(required && { required }),
    ...(showWhen && { displayOptions: { show: { [showWhen.field]: [...showWhen.anyOf] as string[] } } }),
  };
}

/** The parameters of the node. */
export const properties: INodeProperties[] = [
  ...messageFields.map(propertyOf),
  {
    ...{ name: 'options', displayName: 'Options', type: 'collection', default: {} },
    placeholder: 'Add option',
    options: optionFields.map(propertyOf),
  },
];

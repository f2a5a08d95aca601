import { cognigyNode, type NodeField } from '@flowpost/node-adapter';
import { listServices } from '@flowpost/transport';
import type { Condition, ConnectionSchema, ExtensionField, NodeDescriptor } from './platform.ts';

interface Login {
  /** Where the form has the connection. */
  readonly key: string;
  readonly label: string;
  readonly required: readonly string[];
  readonly optional: readonly string[];
}

/** The ways to log in, as connections: their fields are those of the node's settings. */
const connections: Readonly<Record<string, Login>> = {
  'oauth2-client-credentials': {
    key: 'clientCredentials',
    label: 'Flowpost: OAuth2 Client Credentials',
    required: ['user', 'tokenEndpointUrl', 'clientId', 'clientSecret'],
    optional: ['scope'],
  },
  oauth2: {
    key: 'oauth2',
    label: 'Flowpost: OAuth2',
    required: ['user'],
    optional: [
      'clientId',
      'clientSecret',
      'accessToken',
      'refreshToken',
      'expiryDate',
      'accessUrl',
      'tlsOption',
    ],
  },
  basic: {
    key: 'basicAuth',
    label: 'Flowpost: user name and password',
    required: ['username', 'password'],
    optional: [],
  },
};

/** Where the form has the connection for a way to log in. */
export const connectionKeys: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(connections).map(([type, { key }]) => [type, key]),
);

const connectionType = (key: string): string => `flowpost-${key}`;

export const connectionSchemas: readonly ConnectionSchema[] = Object.values(connections).map(
  ({ key, label, required, optional }) => ({
    type: connectionType(key),
    label,
    fields: [
      ...required.map((fieldName) => ({ fieldName, required: true })),
      ...optional.map((fieldName) => ({ fieldName, required: false })),
    ],
  }),
);

/** What Cognigy's own node stores its result under. */
const usualKey = 'email';

/** Cognigy's keys have no dots. */
export const keyOf = (name: string): string => name.replaceAll('.', '_');

const conditionOf = ({ showWhen }: NodeField): Condition | undefined =>
  showWhen && { or: showWhen.anyOf.map((value) => ({ key: keyOf(showWhen.field), value })) };

const serviceOptions = [
  ...listServices().map(({ name }) => ({ label: name, value: name })),
  { label: 'Other SMTP Service', value: 'other' },
];

function widgetOf({ widget, options }: NodeField): Pick<ExtensionField, 'type' | 'params'> {
  switch (widget) {
    case 'select':
      return { type: 'select', params: { options } };
    case 'service':
      return { type: 'select', params: { options: serviceOptions } };
    case 'checkbox':
      return { type: 'toggle' };
    case 'number':
      return { type: 'number' };
    case 'attachments':
    case 'object':
      return { type: 'json' };
    case 'html':
      return { type: 'cognigyText', params: { multiline: true, richText: true } };
    case 'multiline':
      return { type: 'cognigyText', params: { multiline: true } };
    default:
      return { type: 'cognigyText' };
  }
}

function fieldOf(field: NodeField): ExtensionField {
  const { name, label, help, required } = field;
  const defaultValue = /^(?:input|context)Key$/.test(name) ? usualKey : field.default;
  const { type, params } = widgetOf(field);
  const condition = conditionOf(field);
  return {
    ...{ key: keyOf(name), label, type },
    ...(help !== undefined && { description: help }),
    ...(defaultValue !== undefined && { defaultValue }),
    ...((params || required) && { params: { ...params, ...(required && { required }) } }),
    ...(condition && { condition }),
  };
}

const connectionFields: readonly ExtensionField[] = Object.entries(connections).map(
  ([type, { key, label }]) => ({
    ...{ key, label, type: 'connection' as const },
    params: { connectionType: connectionType(key), required: false },
    condition: { key: keyOf('authentication.type'), value: type },
  }),
);

/** Asynchronous sends outlive an execution, and nothing does here. What logs in is in connections. */
const isShown = ({ name }: NodeField): boolean =>
  name !== 'async' && (!name.startsWith('authentication.') || name === 'authentication.type');

const sections = cognigyNode.sections.map(({ title, fields }) => {
  const shown = fields.filter(isShown).map(fieldOf);
  const key = keyOf(title.toLowerCase().replace(/[^a-z]+/g, '_'));
  const isLogin = shown.some((one) => one.key === keyOf('authentication.type'));
  return { key, label: title, fields: isLogin ? [...shown, ...connectionFields] : shown };
});

/** The form of the node: that of the dialect, section by section. */
export const form: Required<Pick<NodeDescriptor, 'fields' | 'sections' | 'form'>> = {
  fields: sections.flatMap(({ fields }) => fields),
  sections: sections.slice(1).map(({ key, label, fields }) => ({
    ...{ key, label, defaultCollapsed: true },
    fields: fields.map((field) => field.key),
  })),
  form: [
    ...(sections[0]?.fields ?? []).map(({ key }) => ({ type: 'field' as const, key })),
    ...sections.slice(1).map(({ key }) => ({ type: 'section' as const, key })),
  ],
};

import {
  type Connection,
  type ConnectionInput,
  type Logger,
  MailError,
  parseConnection,
} from '@flowpost/core';
import { createFlowScope, type FlowScope, type NodeSection } from '@flowpost/node-adapter';
import type { NodeProperties, Runtime, RuntimeNode } from './runtime.ts';

export const connectionType = 'flowpost-connection';

/** Less than Node-RED gives a node to close in, which is 15 seconds. */
const closeDeadlineMs = 10_000;

const only = (...kinds: string[]) => ({ showWhen: { field: 'kind', anyOf: kinds } });

/** The form of a connection. What is marked secret is a credential: Node-RED keeps it encrypted and apart from flows. */
export const connectionSections: readonly NodeSection[] = [
  {
    title: 'Mail server',
    fields: [
      {
        name: 'kind',
        label: 'Kind',
        widget: 'select',
        default: 'smtp',
        options: [
          { value: 'smtp', label: 'SMTP' },
          { value: 'microsoft365', label: 'Microsoft 365' },
          { value: 'other', label: 'URL or JSON' },
        ],
      },
      { ...only('smtp'), name: 'host', label: 'Host', widget: 'text' },
      { ...only('smtp'), name: 'port', label: 'Port', widget: 'number', default: 587 },
      {
        ...only('smtp'),
        name: 'tls',
        label: 'TLS',
        widget: 'select',
        default: 'auto',
        options: [
          { value: 'auto', label: 'By port' },
          { value: 'implicit', label: 'From the first byte' },
          { value: 'starttls', label: 'STARTTLS' },
          { value: 'starttls-if-offered', label: 'STARTTLS where offered' },
          { value: 'none', label: 'None' },
        ],
      },
      {
        ...only('microsoft365'),
        name: 'delivery',
        label: 'Over',
        widget: 'select',
        default: 'graph',
        options: [
          { value: 'graph', label: 'Graph' },
          { value: 'smtp', label: 'SMTP' },
        ],
      },
      { ...only('microsoft365'), name: 'tenantId', label: 'Tenant id', widget: 'text' },
      { ...only('microsoft365'), name: 'clientId', label: 'Client id', widget: 'text' },
      { ...only('microsoft365'), name: 'clientSecret', label: 'Client secret', widget: 'text', secret: true },
      {
        ...only('smtp', 'microsoft365'),
        name: 'user',
        label: 'User',
        widget: 'text',
        help: 'Who logs in; at Microsoft 365, whose mailbox sends.',
      },
      { ...only('smtp'), name: 'password', label: 'Password', widget: 'text', secret: true },
      {
        ...only('other'),
        name: 'connection',
        label: 'Connection',
        widget: 'text',
        secret: true,
        help: 'A connection URL, or a connection in JSON: every way to log in that Flowpost knows.',
      },
      {
        ...only('smtp', 'microsoft365'),
        name: 'from',
        label: 'From',
        widget: 'text',
        help: 'For messages without one.',
      },
    ],
  },
];

const credentialNames = connectionSections
  .flatMap(({ fields }) => fields)
  .filter(({ secret }) => secret)
  .map(({ name }) => name);

/** A mail server, and the sessions with it that all nodes share which send over it. */
export interface ConnectionNode extends RuntimeNode {
  readonly scope: FlowScope;
  /** @throws MailError `CONNECTION_INVALID`. */
  connection(): Connection;
}

const isBlank = (value: unknown): boolean =>
  value === undefined || value === null || String(value).trim() === '';

const filled = (values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => !isBlank(value)));

function written(text: string): unknown {
  if (!text.trimStart().startsWith('{')) return text;
  try {
    return JSON.parse(text);
  } catch {
    // What the parser says would repeat some of it.
    throw new MailError('CONNECTION_INVALID', 'The connection is not JSON, though it begins with a brace.');
  }
}

/** The connection that the values of the form make. */
function connectionOf(
  { kind, host, port, tls, delivery, tenantId, clientId, user, from }: Readonly<Record<string, unknown>>,
  { clientSecret, password, connection }: Readonly<Record<string, string | undefined>> = {},
): unknown {
  if (kind === 'other') return written(connection ?? '');
  if (kind === 'microsoft365') {
    const auth = filled({ kind: 'oauth2-client-credentials', user, tenantId, clientId, clientSecret });
    return filled({
      kind,
      delivery: isBlank(delivery) ? 'graph' : delivery,
      tenantId,
      objectId: user,
      from,
      auth,
    });
  }
  const auth = !isBlank(user) ? { kind: 'basic', username: user, password } : undefined;
  return filled({ host, port: isBlank(port) ? undefined : Number(port), tls, from, auth });
}

function readConnection(properties: NodeProperties, credentials: RuntimeNode['credentials']): Connection {
  const parsed = parseConnection(connectionOf(properties, credentials) as ConnectionInput);
  // What stands for something else is no data, and no expressions are looked for in it.
  return Object.defineProperty(parsed, 'toJSON', { value: () => connectionType });
}

const loggerOf = (node: RuntimeNode): Logger => {
  const line = (message: string, fields?: object): string =>
    fields === undefined ? message : `${message} ${JSON.stringify(fields)}`;
  return {
    debug: (message, fields) => node.debug(line(message, fields)),
    // One line for each message would be the stock of a log; its status shows it.
    info: (message, fields) => node.debug(line(message, fields)),
    warn: (message, fields) => node.warn(line(message, fields)),
    error: (message, fields) => node.error(line(message, fields)),
  };
};

export function registerConnection(runtime: Runtime): void {
  function Connection(this: RuntimeNode, properties: NodeProperties): void {
    runtime.nodes.createNode(this, properties);
    const scope = createFlowScope({ closeDeadlineMs, logger: loggerOf(this) });
    // It stays as it was deployed.
    let parsed: Connection | undefined;
    const connection = (): Connection => {
      parsed ??= readConnection(properties, this.credentials);
      return parsed;
    };
    Object.assign(this, { scope, connection });
    this.on('close', (_removed, done) => {
      scope[Symbol.asyncDispose]().then(done, done);
    });
  }
  runtime.nodes.registerType(connectionType, Connection, {
    credentials: Object.fromEntries(credentialNames.map((name) => [name, { type: 'password' }] as const)),
  });
}

import {
  type Connection,
  type ConnectionInput,
  isPlainObject,
  MailError,
  parseConnection,
} from '@flowpost/core';
import { asFlag, asTlsOptions } from './dialects/fields.ts';
import { readJsonField } from './json-field.ts';
import type { NodeSection } from './node.ts';

const only = (...kinds: string[]) => ({ showWhen: { field: 'kind', anyOf: kinds } });

/**
 * The form of a mail server, for hosts that keep connections apart from the nodes which use them. What is marked secret is a
 * credential. {@link connectionOfForm} makes a connection of its values.
 */
export const connectionForm: readonly NodeSection[] = [
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
      {
        ...only('smtp', 'microsoft365'),
        name: 'tlsOptions',
        label: 'TLS options',
        widget: 'object',
        help: 'What to trust over SMTP, in JSON: the certificate of a private authority as ca or caFile, the fingerprints of certificates, or the serverName they are for.',
      },
      {
        ...only('smtp'),
        name: 'allowPlaintextAuth',
        label: 'Send credentials in clear',
        widget: 'checkbox',
        default: false,
        help: 'Only for a server that offers no TLS in a network that is safe.',
      },
      {
        ...only('microsoft365'),
        name: 'exchangeRbac',
        label: 'Rights come from Exchange',
        widget: 'checkbox',
        default: false,
        help: 'RBAC for Applications: the tokens of such an application carry no roles.',
      },
    ],
  },
];

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

/** @throws MailError `CONNECTION_INVALID` for what is no object. */
function tlsOptionsOf(value: unknown): unknown {
  const options = asTlsOptions(readJsonField(value));
  if (isPlainObject(options)) return options;
  if (!Array.isArray(options) && isBlank(options)) return undefined;
  throw new MailError('CONNECTION_INVALID', 'tlsOptions: they are no object in JSON.', {
    hint: 'Write the TLS options as an object, for example {"serverName": "mail.example.com"}.',
  });
}

function inputOf(values: Readonly<Record<string, unknown>>): unknown {
  const { kind, host, port, tls, user, password, from } = values;
  const { delivery, tenantId, clientId, clientSecret, connection } = values;
  if (kind === 'other' && isBlank(connection)) {
    throw new MailError('CONNECTION_INVALID', 'connection: it is missing.', {
      hint: 'Give the mail server its connection, as a URL or in JSON. What was imported came without it.',
    });
  }
  if (kind === 'other') return written(String(connection));
  const tlsOptions = tlsOptionsOf(values.tlsOptions);
  if (kind === 'microsoft365') {
    const exchangeRbac = asFlag(values.exchangeRbac);
    const application = { tenantId, clientId, clientSecret, exchangeRbac };
    const auth = filled({ kind: 'oauth2-client-credentials', user, ...application });
    const over = isBlank(delivery) ? 'graph' : delivery;
    return filled({ kind, delivery: over, tenantId, objectId: user, from, auth, tlsOptions });
  }
  const auth = !isBlank(user) ? { kind: 'basic', username: user, password } : undefined;
  const allowPlaintextAuth = asFlag(values.allowPlaintextAuth);
  const where = { host, port: isBlank(port) ? undefined : Number(port), tls, tlsOptions };
  return filled({ ...where, from, auth, allowPlaintextAuth });
}

/**
 * The connection that the values of {@link connectionForm} make, by the names of its fields.
 *
 * @throws MailError `CONNECTION_INVALID`, which repeats nothing of a secret.
 */
export function connectionOfForm(values: Readonly<Record<string, unknown>>): Connection {
  return parseConnection(inputOf(values) as ConnectionInput);
}

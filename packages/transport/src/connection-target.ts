import { entraTokenEndpoint, exchangeScopeAt } from '@flowpost/auth-providers';
import {
  type Connection,
  type Credential,
  definedOnly,
  type Microsoft365Connection,
  resolveTlsMode,
  type SmtpConnection,
} from '@flowpost/core';
import { findService, findServiceByHost } from './services/find-service.ts';
import type { ServiceProfile } from './services/service-profiles.ts';

type ConnectionLimits = NonNullable<Connection['limits']>;

const graphBaseUrl = 'https://graph.microsoft.com/v1.0';

/** Where the Graph of a connection is: Microsoft's own, or that of a national cloud. */
export const graphUrlOf = ({ graphBaseUrl: own = graphBaseUrl }: Microsoft365Connection): string =>
  own.replace(/\/$/, '');

/** The credential with what the connection knows: the tenant, and the permission to ask for. */
function tenantCredential({ auth, tenantId }: Microsoft365Connection, scope: string | undefined): Credential {
  if (auth.kind === 'oauth2-refresh') {
    // Encrypted, it is not known yet; there is an endpoint for all tenants too.
    const tenant = typeof tenantId === 'string' ? tenantId : 'common';
    return { ...auth, tokenEndpoint: auth.tokenEndpoint ?? entraTokenEndpoint(tenant, scope) };
  }
  if (auth.kind !== 'oauth2-client-credentials' && auth.kind !== 'oauth2-certificate') return auth;
  const wanted = auth.scope ?? scope;
  return { ...auth, tenantId: auth.tenantId ?? tenantId, ...(wanted !== undefined && { scope: wanted }) };
}

export const graphCredential = (connection: Microsoft365Connection): Credential =>
  tenantCredential(connection, `${new URL(graphUrlOf(connection)).origin}/.default`);

/** What a Microsoft 365 connection is for delivery over SMTP: an SMTP connection with a token. */
export function asSmtpConnection(connection: Microsoft365Connection): SmtpConnection {
  const submission = submissionOf(connection);
  return { ...submission, auth: tenantCredential(connection, exchangeScopeAt(submission.host)) };
}

function submissionOf(connection: Microsoft365Connection) {
  const { host = 'smtp.office365.com', port = 587, tlsOptions, timeouts, from, limits } = connection;
  return {
    kind: 'smtp' as const,
    protocol: 'smtp' as const,
    host,
    port,
    tls: 'auto' as const,
    allowPlaintextAuth: false,
    pipelining: 'across-messages' as const,
    timeouts,
    ...(tlsOptions && { tlsOptions }),
    ...(from && { from }),
    ...(limits && { limits }),
  };
}

/** What a connection says, and else what its service is known to allow. */
const limitsOf = (profile: ServiceProfile | undefined, { limits }: Connection): ConnectionLimits => ({
  ...profile,
  ...definedOnly(limits),
});

/** Where an SMTP connection leads: its service's host and port, or its own. */
export function resolveServer(connection: SmtpConnection) {
  const service = connection.service === undefined ? undefined : findService(connection.service);
  const host = connection.host ?? service?.host ?? '';
  const mode = connection.tls === 'auto' ? (service?.tls ?? 'auto') : connection.tls;
  const usual = connection.protocol === 'lmtp' ? 24 : 587;
  const port = connection.port ?? service?.port ?? (mode === 'implicit' ? 465 : usual);
  const limits = limitsOf((service ?? findServiceByHost(host))?.profile, connection);
  return { host, port, tls: resolveTlsMode(mode, host, port), limits };
}

/** Where the messages of a connection go, and what is allowed there. */
export interface ConnectionTarget {
  /** Host name of the mail server, or of Microsoft Graph. */
  readonly host: string;
  /** What holds there: what the connection says, and else what the service is known to allow. */
  readonly limits: ConnectionLimits;
}

/**
 * Where the messages of a connection go, and what is allowed there, however the service was named.
 *
 * @throws MailError `SERVICE_UNKNOWN`.
 */
export function connectionTarget(connection: Connection): ConnectionTarget {
  if (connection.kind === 'microsoft365' && connection.delivery === 'graph') {
    const limits = limitsOf(findService('Microsoft 365').profile, connection);
    return { host: new URL(graphUrlOf(connection)).hostname, limits };
  }
  const { host, limits } = resolveServer(
    // Whatever is wrong with who logs in: it leads there all the same.
    connection.kind === 'smtp' ? connection : submissionOf(connection),
  );
  return { host: host.toLowerCase().replace(/\.$/, ''), limits };
}

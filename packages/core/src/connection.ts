import { isIP, isIPv4 } from 'node:net';
import { z } from 'zod';
import { singleAddressSchema } from './address.ts';
import { readConnectionUrl } from './connection-url.ts';
import { credentialSchema, encryptableSchema } from './credential.ts';
import { dkimSchema } from './dkim.ts';
import { isMailError } from './errors/mail-error.ts';
import { parseWith } from './errors/schema-error.ts';
import { isBlockedPort, withoutBrackets } from './url-endpoint.ts';

/**
 * How a connection is encrypted. `implicit`: TLS from the first byte (RFC 8314). `starttls`: upgraded before
 * anything else, or the send fails (RFC 3207). `starttls-if-offered`: upgraded when the server offers it.
 * `none`: never. `auto`: port 465 is implicit, any other STARTTLS, which on a loopback host is not required.
 */
export const tlsModeSchema = z.enum(['auto', 'implicit', 'starttls', 'starttls-if-offered', 'none']);
/** When TLS begins; see {@link tlsModeSchema}. */
export type TlsMode = z.output<typeof tlsModeSchema>;

const fingerprint = z
  .string()
  .transform((text) => text.replaceAll(':', '').toLowerCase())
  .refine((text) => /^[0-9a-f]{64}$/.test(text), {
    error: 'a fingerprint is a SHA-256 hash: 64 hexadecimal digits',
  });

/**
 * What is checked of a server when TLS is used. Default: its certificate, against the well-known authorities and its host name, in TLS 1.2 or newer.
 */
export const tlsOptionsSchema = z.strictObject({
  /** Certificates of the authorities to trust instead of the well-known ones, in PEM. */
  ca: z.union([z.string(), z.array(z.string())]).optional(),
  /** The same in a file. */
  caFile: z.string().min(1).optional(),
  /** SHA-256 fingerprints of acceptable server certificates, in hexadecimal; replaces all other checks. */
  fingerprints: z.array(fingerprint).min(1).optional(),
  /** The name the certificate must be for (and SNI), when not the host. */
  serverName: z.string().min(1).optional(),
  /** Default TLSv1.2. */
  minVersion: z.enum(['TLSv1.2', 'TLSv1.3']).optional(),
  /** Accepts every certificate, and so anybody in between. For experiments only. */
  dangerouslyAcceptAnyCertificate: z.boolean().optional(),
});
/** Whom to trust, and for which name, when TLS is used. */
export type TlsOptions = z.output<typeof tlsOptionsSchema>;

/** A day at most: timers cannot hold much more, and added up these must still fit. */
const milliseconds = z.number().int().positive().max(86_400_000);

const timeoutsSchema = z.strictObject({
  /** DNS and TCP. Default 30 s. */
  connectMs: milliseconds.default(30_000),
  /** TLS handshake, and separately the server's greeting. Default 30 s. */
  greetingMs: milliseconds.default(30_000),
  /** The reply to one command. Default 5 min (RFC 5321 section 4.5.3.2). */
  commandMs: milliseconds.default(300_000),
  /** A block of the body without progress. Default 3 min (RFC 5321 section 4.5.3.2.5). */
  dataMs: milliseconds.default(180_000),
  /** The reply to the final dot. Default 10 min (RFC 5321 section 4.5.3.2.6). */
  confirmMs: milliseconds.default(600_000),
});
/** The longest that each phase of a delivery may take, in milliseconds. */
export type Timeouts = z.output<typeof timeoutsSchema>;

const limitsSchema = z.strictObject({
  /** Sessions open at the same time. Default: what the service is known to allow, otherwise 5. */
  connections: z.number().int().min(1).max(100).optional(),
  /** Size of a message in bytes, as encoded. Default: what the server announces. */
  messageBytes: z.number().int().positive().optional(),
  /** Messages begun in any 60 seconds, over all sessions. Default: what the service is known to allow. */
  messagesPerMinute: z.number().int().positive().optional(),
  /** How long a session may wait for its next message. Default 1 min. */
  idleMs: milliseconds.optional(),
  /** How long a session is used at all. Default 9 min, less than services allow. */
  lifetimeMs: milliseconds.optional(),
});

/** A TCP port. */
export const portSchema = z.number().int().min(1).max(65_535);

/** A host name or address, without anything around it. */
export const hostSchema = z
  .string()
  .min(1, 'the host name is empty')
  // RFC 1035 section 2.3.4, and a dot at the end.
  .max(254, 'the host name is too long')
  .refine((host) => /^[^\s/@:?#[\]\x00-\x1f\x7f]+$/.test(host) || isIP(host) > 0, {
    error: 'it is not a host name',
  });

const ehloName = z
  .string()
  .regex(
    /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])$/i,
    'it must be a host name or an address in brackets (RFC 5321 section 4.1.1.1)',
  )
  .max(255);

const smtpFields = z.strictObject({
  kind: z.literal('smtp'),
  /** `lmtp` speaks to a mail store (RFC 2033), which answers for each recipient. */
  protocol: z.enum(['smtp', 'lmtp']).default('smtp'),
  /** A known service by name, instead of host and port. */
  service: z.string().min(1).optional(),
  host: hostSchema.optional(),
  /** Default 465 with implicit TLS, 24 for LMTP, otherwise 587. */
  port: portSchema.optional(),
  tls: tlsModeSchema.default('auto'),
  auth: credentialSchema.optional(),
  /** The From address for messages that have none. */
  from: singleAddressSchema.optional(),
  limits: limitsSchema.optional(),
  tlsOptions: tlsOptionsSchema.optional(),
  timeouts: timeoutsSchema.prefault({}),
  /** Signs every message, once for each entry. */
  dkim: z.union([dkimSchema.transform((one) => [one]), z.array(dkimSchema).max(10)]).optional(),
  /** The name given in EHLO. Default: this machine's name when it is a full one, else its address. */
  ehloName: ehloName.optional(),
  /** Lets credentials travel over an unencrypted connection. On a loopback host they always may. */
  allowPlaintextAuth: z.boolean().default(false),
  /**
   * What is said to a server with PIPELINING (RFC 2920) without waiting for the answer to what was said before: the
   * envelope of the next message behind the end of the one before (`across-messages`), only the commands of one message's
   * envelope (`within-message`), or nothing (`off`).
   */
  pipelining: z.enum(['across-messages', 'within-message', 'off']).default('across-messages'),
});

const smtpSchema = smtpFields
  .refine(({ tls, tlsOptions }) => tls !== 'none' || tlsOptions?.fingerprints === undefined, {
    error: 'there is no certificate to compare without TLS',
    path: ['tlsOptions', 'fingerprints'],
  })
  .refine(({ service, host }) => (service === undefined) !== (host === undefined), {
    error: 'give either service or host',
    path: ['host'],
  });

/** Encrypted, or on this machine. */
const graphUrl = z
  .url({ protocol: /^https?$/ })
  .refine(
    (text) => text.startsWith('https:') || isLoopbackHost(withoutBrackets(URL.parse(text)?.hostname ?? '')),
    {
      error: 'it must be an https URL',
    },
  )
  .refine((text) => !/[?#@]/.test(text), { error: 'it must be no more than a server and a path' })
  .refine((text) => !isBlockedPort(Number(URL.parse(text)?.port)), {
    error: 'its port is one of another protocol, at which nobody is asked over http',
  });

const microsoft365Fields = z.strictObject({
  kind: z.literal('microsoft365'),
  /** Over Microsoft Graph, or over SMTP with a token. */
  delivery: z.enum(['smtp', 'graph']),
  tenantId: encryptableSchema,
  /** The Object ID of the user who sends. Default: the From address. */
  objectId: encryptableSchema.optional(),
  auth: credentialSchema,
  from: singleAddressSchema.optional(),
  limits: limitsSchema.optional(),
  /** Graph in a national cloud. Default https://graph.microsoft.com/v1.0. */
  graphBaseUrl: graphUrl.optional(),
  /** For delivery over SMTP. Default smtp.office365.com, port 587, STARTTLS. */
  host: hostSchema.optional(),
  port: portSchema.optional(),
  tlsOptions: tlsOptionsSchema.optional(),
  timeouts: timeoutsSchema.prefault({}),
});

const microsoft365Schema = microsoft365Fields
  .refine(({ delivery, tlsOptions }) => delivery === 'smtp' || tlsOptions === undefined, {
    error: 'they are for delivery over SMTP; Graph is verified like any other https server',
    path: ['tlsOptions'],
  })
  .refine(({ delivery, auth }) => delivery === 'smtp' || auth.kind !== 'basic', {
    error: 'Graph takes tokens, not passwords',
    path: ['auth'],
  });

/** How to reach a mail server, as an object or as a URL (see `readConnectionUrl`). */
export const connectionSchema = z.preprocess(
  (input, context) => {
    if (typeof input !== 'string') {
      const bare = typeof input === 'object' && input !== null && !('kind' in input);
      return bare ? { kind: 'smtp', ...input } : input;
    }
    try {
      return readConnectionUrl(input);
    } catch (error) {
      if (!isMailError(error)) throw error;
      context.addIssue({ code: 'custom', message: error.message, params: { code: error.code } });
      return z.NEVER;
    }
  },
  z.discriminatedUnion('kind', [smtpSchema, microsoft365Schema]),
);

/** Where messages go and who logs in there, checked: out of {@link parseConnection}. */
export type Connection = z.output<typeof connectionSchema>;
/** A connection to an SMTP or LMTP server, checked. */
export type SmtpConnection = Extract<Connection, { kind: 'smtp' }>;
/** A connection to a Microsoft 365 tenant, over Graph or SMTP, checked. */
export type Microsoft365Connection = Extract<Connection, { kind: 'microsoft365' }>;
/** A connection URL, or an object; `kind` may be left out for SMTP. */
export type ConnectionInput =
  | string
  | z.input<typeof smtpSchema>
  | Omit<z.input<typeof smtpSchema>, 'kind'>
  | z.input<typeof microsoft365Schema>;

/** @throws MailError `CONNECTION_INVALID` listing every bad field; never repeats a secret. */
export function parseConnection(input: ConnectionInput): Connection {
  return parseWith(connectionSchema, input, 'CONNECTION_INVALID');
}

/** Whether a host is this machine by its name or address, without asking the DNS (RFC 6761 section 6.3). */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, '');
  if (isIPv4(name)) return name.startsWith('127.');
  return name === 'localhost' || name.endsWith('.localhost') || name === '::1';
}

/** What `auto` means for a host and port; every other mode is returned as it is. */
export function resolveTlsMode(mode: TlsMode, host: string, port: number): Exclude<TlsMode, 'auto'> {
  if (mode !== 'auto') return mode;
  if (port === 465) return 'implicit';
  return isLoopbackHost(host) ? 'starttls-if-offered' : 'starttls';
}

import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { MailError, parseWith, type Sandbox, singleAddressSchema, toMailError } from '@flowpost/core';
import { AddressGuard } from '@flowpost/mime-attachments';
import { z } from 'zod';

const whole = (from: number, to: number) =>
  z
    .string()
    .trim()
    .regex(/^[+-]?\d+$/, 'it is no whole number')
    .transform(Number)
    .pipe(z.number().int().min(from).max(to));
const list = z.string().transform((text) => text.split(/[\s,]+/).filter(Boolean));

function isHostList(hosts: readonly string[]): boolean {
  try {
    return new AddressGuard(hosts) instanceof AddressGuard;
  } catch {
    return false;
  }
}

const isNetworkList = (hosts: readonly string[]): boolean =>
  isHostList(hosts) && hosts.every((host) => isIP(host.replace(/\/[1-9]\d*$/, '')) > 0);

/** What can be put into a database at once, in MiB, with 25 MiB of attached files beside it, as base64. */
const mostMib = { embedded: 85, server: 200 };

/** The environment the server reads. Everything has a default that is safe on a machine of one's own. */
const environmentSchema = z.object({
  /** The folder of the embedded database, the key file and files that may be attached. */
  FLOWPOST_DATA: z.string().min(1).default('flowpost-data'),
  /** PostgreSQL instead of the embedded database; then any number of servers may share it. */
  DATABASE_URL: z
    .string()
    .regex(
      /^postgres(?:ql)?:\/\//,
      'it is no URL of a PostgreSQL server: postgres://user:password@host/database',
    )
    // Without a host it may be a socket, which the query names.
    .refine((text) => URL.canParse(text.replaceAll(' ', '%20').replace('@/', '@host/')), {
      error:
        'it is no URL; in a password # is written %23, / %2F, ? %3F and % %25, and a port is below 65536',
    })
    .optional(),
  /** Keys that seal secrets, `KEYID:KEY`, the first one for new ones. Default: a file in the folder. */
  FLOWPOST_KEYS: z.string().optional(),
  /** Where to listen. Default this machine alone. */
  HOST: z.string().trim().min(1).default('127.0.0.1'),
  PORT: whole(0, 65_535).default(8025),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'silent']).default('info'),
  /** Deliveries under way at once. */
  FLOWPOST_CONCURRENCY: whole(1, 1_000).default(300),
  /** How long a delivery is tried again, in hours. */
  FLOWPOST_RETRY_HOURS: whole(0, 1_000).default(48),
  /** How long a process that says nothing counts as alive, in seconds, where several share a database. */
  FLOWPOST_LEASE_SECONDS: whole(1, 3_600).default(15),
  /** How long what is under way has to end when the server is stopped, in seconds. */
  FLOWPOST_GRACE_SECONDS: whole(0, 3_600).default(15),
  /** How long a server that is stopped still serves while /readyz says 503, in seconds: for a proxy to notice. */
  FLOWPOST_DRAIN_SECONDS: whole(0, 600).default(0),
  /** How long deliveries are kept after they ended, in days. */
  FLOWPOST_KEEP_DAYS: whole(1, 3_650).default(30),
  /** Size of a request, in MiB: no more than a database can hold. */
  FLOWPOST_BODY_MIB: whole(1, mostMib.server).default(40),
  /** Requests from one key or address in a minute. */
  FLOWPOST_REQUESTS_PER_MINUTE: whole(1, 100_000_000).default(60_000),
  /** Hosts and networks that attachment URLs, token endpoints and Graph URLs may reach although they are private. */
  FLOWPOST_ALLOWED_HOSTS: list
    .refine(isHostList, 'names, addresses, or networks such as 10.1.0.0/16, separated by commas')
    .optional(),
  /** Proxies in front of the server, as addresses or networks: where they say a request comes from is believed. */
  FLOWPOST_TRUSTED_PROXIES: list
    .refine(isNetworkList, 'addresses, or networks such as 10.1.0.0/16, separated by commas')
    .optional(),
  /** Makes a key with the scope admin at this start and prints it, for who has lost theirs. */
  FLOWPOST_NEW_API_KEY: z.stringbool().default(false),
  /** Sends nothing out of the outbox: what is in it can be looked at and cancelled first. */
  FLOWPOST_OUTBOX_PAUSED: z.stringbool().default(false),
  /** Redirects all mail to this address, for trying out. */
  FLOWPOST_SANDBOX_REDIRECT_TO: singleAddressSchema.optional(),
});

export interface ServerConfig {
  readonly dataFolder: string;
  readonly databaseUrl?: string | undefined;
  readonly keys?: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly logLevel: string;
  readonly concurrency: number;
  readonly retryForMs: number;
  readonly leaseMs: number;
  readonly graceMs: number;
  readonly drainMs: number;
  readonly keepDays: number;
  readonly bodyBytes: number;
  readonly requestsPerMinute: number;
  readonly allowedHosts?: readonly string[] | undefined;
  readonly trustedProxies?: readonly string[] | undefined;
  readonly sandbox?: Sandbox | undefined;
  readonly makesKey: boolean;
  /** Nothing is sent out of the outbox. */
  readonly isPaused: boolean;
  /** Where files may be attached from. */
  readonly filesFolder: string;
}

const wholeSchema = environmentSchema.refine(
  (env) => env.DATABASE_URL !== undefined || env.FLOWPOST_BODY_MIB <= mostMib.embedded,
  {
    error: `the embedded database holds no more than ${mostMib.embedded}; use a PostgreSQL server`,
    path: ['FLOWPOST_BODY_MIB'],
  },
);

function readEnvironment(given: object) {
  try {
    return parseWith(wholeSchema, given, 'CONNECTION_INVALID');
  } catch (error) {
    const { message, details } = toMailError(error);
    const hint = 'Correct the environment variable; apps/server/README.md lists them all.';
    throw new MailError('CONNECTION_INVALID', message, { hint, details });
  }
}

/** @throws MailError `CONNECTION_INVALID` naming every bad variable. */
export function readConfig(environment: NodeJS.ProcessEnv): ServerConfig {
  // A variable that is set to nothing is not set.
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value?.trim() !== ''));
  const env = readEnvironment(given);
  const dataFolder = resolve(env.FLOWPOST_DATA);
  return {
    dataFolder,
    databaseUrl: env.DATABASE_URL,
    keys: env.FLOWPOST_KEYS,
    host: env.HOST,
    port: env.PORT,
    logLevel: env.LOG_LEVEL,
    concurrency: env.FLOWPOST_CONCURRENCY,
    retryForMs: env.FLOWPOST_RETRY_HOURS * 3_600_000,
    leaseMs: env.FLOWPOST_LEASE_SECONDS * 1_000,
    graceMs: env.FLOWPOST_GRACE_SECONDS * 1_000,
    drainMs: env.FLOWPOST_DRAIN_SECONDS * 1_000,
    keepDays: env.FLOWPOST_KEEP_DAYS,
    bodyBytes: env.FLOWPOST_BODY_MIB * 1_048_576,
    requestsPerMinute: env.FLOWPOST_REQUESTS_PER_MINUTE,
    allowedHosts: env.FLOWPOST_ALLOWED_HOSTS,
    trustedProxies: env.FLOWPOST_TRUSTED_PROXIES,
    sandbox: env.FLOWPOST_SANDBOX_REDIRECT_TO && { redirectTo: env.FLOWPOST_SANDBOX_REDIRECT_TO },
    makesKey: env.FLOWPOST_NEW_API_KEY,
    isPaused: env.FLOWPOST_OUTBOX_PAUSED,
    filesFolder: join(dataFolder, 'files'),
  };
}

import { MailError, type TlsMode } from '@flowpost/core';
import services from 'nodemailer/lib/well-known/services.json' with { type: 'json' };
import { type ServiceProfile, serviceProfiles } from './service-profiles.ts';

/** Where a known service takes mail. */
export interface MailService {
  /** Its name in the list, such as `Gmail`. */
  readonly name: string;
  readonly description: string;
  readonly host: string;
  readonly port: number;
  readonly tls: TlsMode;
  /** What it allows, where that is known. */
  readonly profile: ServiceProfile;
}

interface Entry {
  readonly description?: string;
  readonly aliases?: readonly string[];
  readonly domains?: readonly string[];
  /** Absent for development servers on this machine. */
  readonly host?: string;
  readonly port?: number | string;
  readonly secure?: boolean;
  readonly ignoreTLS?: boolean;
}

/** Names that workflow tools use for services the list knows under another. */
const furtherNames: Readonly<Record<string, string>> = {
  office365: 'Outlook365',
  microsoft365: 'Outlook365',
  m365: 'Outlook365',
  exchangeonline: 'Outlook365',
  exchange: 'Outlook365',
  microsoftoffice365: 'Outlook365',
  o365: 'Outlook365',
  google: 'Gmail',
  googlemail: 'Gmail',
  googleworkspace: 'Gmail',
  gsuite: 'Gmail',
  amazonses: 'SES',
};

const normalize = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

const entries: Readonly<Record<string, Entry>> = services;

const byName = new Map<string, string>(Object.entries(furtherNames));
for (const [name, { aliases = [], domains = [] }] of Object.entries(entries)) {
  for (const key of [name, ...aliases, ...domains]) byName.set(normalize(key), name);
}

/** Where several share a host, the first one stands for them. */
const byHost = new Map<string, string>();
for (const [name, { host }] of Object.entries(entries).reverse())
  if (host !== undefined) byHost.set(host.toLowerCase(), name);

/**
 * A service by its name, an alias or a mail domain; case, spaces and punctuation do not matter.
 *
 * @throws MailError `SERVICE_UNKNOWN`, suggesting names that begin alike.
 */
export function findService(name: string): MailService {
  const key = normalize(name);
  const found = byName.get(key);
  const entry = found === undefined ? undefined : entries[found];
  if (found === undefined || !entry) {
    const similar = Object.keys(entries).filter((one) => normalize(one).startsWith(key.slice(0, 3)));
    // A connection URL in the wrong place may hold a password.
    const shown = /[:/@]/.test(name) ? 'this' : JSON.stringify(name.slice(0, 100));
    throw new MailError('SERVICE_UNKNOWN', `No service is known as ${shown}.`, {
      details: { ...(shown !== 'this' && { service: name.slice(0, 100) }), similar },
    });
  }
  return toService(found, entry);
}

function toService(name: string, entry: Entry): MailService {
  return {
    name,
    description: entry.description ?? name,
    host: entry.host ?? 'localhost',
    port: Number(entry.port ?? (entry.secure ? 465 : 587)),
    tls: entry.secure ? 'implicit' : entry.ignoreTLS ? 'none' : 'auto',
    profile: serviceProfiles[name] ?? {},
  };
}

/** Every known service, in alphabetical order. */
export function listServices(): MailService[] {
  return Object.entries(entries)
    .map(([name, entry]) => toService(name, entry))
    .toSorted((a, b) => a.name.localeCompare(b.name, 'en'));
}

/** The service that takes mail at a host, if it is a known one: its limits hold however it was named. */
export function findServiceByHost(host: string): MailService | undefined {
  const name = byHost.get(host.toLowerCase());
  const entry = name === undefined ? undefined : entries[name];
  return name !== undefined && entry ? toService(name, entry) : undefined;
}

import { findService, listServices, type MailService } from '@flowpost/transport';
import { type Command, UsageError } from '../command-line.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson } from '../output.ts';
import { size } from '../size.ts';
import type { servicesSpec } from '../specs.ts';

const count = (value: number): string => value.toLocaleString('en');

/** What a service allows, as short as it can be said; empty when nothing is known. */
function summary({ profile }: MailService): string {
  const parts = [
    profile.connections !== undefined && `${profile.connections} connections`,
    profile.messagesPerMinute !== undefined && `${count(profile.messagesPerMinute)}/min`,
    profile.messagesPerDay !== undefined && `${count(profile.messagesPerDay)}/day`,
    profile.recipientsPerMessage !== undefined && `${count(profile.recipientsPerMessage)} recipients each`,
    profile.recipientsPerDay !== undefined && `${count(profile.recipientsPerDay)} recipients/day`,
    profile.messageBytes !== undefined && size(profile.messageBytes),
    profile.auth?.join(' or '),
  ];
  return parts.filter(Boolean).join(', ');
}

function describe(service: MailService): string {
  const { name, description, host, port, tls, profile } = service;
  const known = summary(service);
  return [
    `${name}: ${description}`,
    `  server        ${host}:${port}, ${tls === 'implicit' ? 'TLS' : tls === 'none' ? 'not encrypted' : 'STARTTLS'}`,
    known && `  allows        ${known}`,
    profile.appPasswordUrl && `  app password  ${profile.appPasswordUrl}`,
    profile.source && `  source        ${profile.source}`,
  ]
    .filter(Boolean)
    .join('\n');
}

/** `flowpost services`: the known services, or all that is known of one. */
export const services: Command<typeof servicesSpec> = async (values, positionals) => {
  if (positionals.length > 1)
    throw new UsageError('flowpost services takes one NAME; quote it if it has spaces.');
  const [name] = positionals;
  if (name !== undefined) {
    const service = findService(name);
    if (values.json) printJson(service);
    else process.stdout.write(`${describe(service)}\n`);
    return exitCodes.sent;
  }
  const all = listServices();
  if (values.json) {
    printJson(all);
    return exitCodes.sent;
  }
  const width = Math.max(...all.map((service) => service.name.length));
  const place = ({ host, port }: MailService): string => `${host}:${port}`;
  const placeWidth = Math.max(...all.map((service) => place(service).length));
  for (const service of all) {
    const line = `${service.name.padEnd(width)}  ${place(service).padEnd(placeWidth)}  ${summary(service)}`;
    process.stdout.write(`${line.trimEnd()}\n`);
  }
  return exitCodes.sent;
};

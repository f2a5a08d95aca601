import { type SecretBox, toMailError } from '@flowpost/core';
import type { Logger } from 'pino';
import type { ServerConfig } from './config.ts';
import { type Database, storageReason } from './database/database.ts';
import type { FlowpostServer } from './parts.ts';
import { rotateKeys } from './security/rotate-keys.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/**
 * What is done beside sending: forgetting what is old, telling which credentials end soon; at once too, since a server that
 * is started often would never come to it.
 *
 * @returns ends that.
 */
export function startChores(
  { deliveries, connections }: Pick<FlowpostServer, 'deliveries' | 'connections'>,
  { keepDays }: ServerConfig,
  log: Logger,
): () => void {
  const failed = (what: string, error: unknown): void =>
    log.error({ code: (error as { code?: string }).code, ...storageReason(error) }, what);
  const forget = (): unknown =>
    deliveries
      .forget(keepDays)
      .catch((error) => failed('what is old could not be forgotten; it is tried again in an hour', error));
  /** In the log; the metrics and the API show them too. */
  const reportExpiry = async (): Promise<void> => {
    const all = await connections.list().catch((error) => {
      failed('it is not known which credentials end soon; it is looked again in a day', error);
      return [];
    });
    for (const { name, warnings } of all)
      for (const warning of warnings) log.warn({ connection: name }, warning);
  };
  void forget();
  void reportExpiry();
  const timers = [setInterval(forget, hourMs), setInterval(() => void reportExpiry(), dayMs)];
  for (const timer of timers) timer.unref();
  return () => {
    for (const timer of timers) clearInterval(timer);
  };
}

/**
 * With keys behind the first one everything is sealed with that, as long as something is not; after this they are no longer needed.
 * Without any it is only looked whether they were taken away too early.
 */
export async function sealAnew(
  database: Database,
  box: SecretBox,
  isRotated: boolean,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  // Each key is there for what is sealed, and for what was before that had keys of its own.
  const hasOthers = box.keyIds.length > 2;
  try {
    const only = isRotated && !hasOthers ? ['connections'] : undefined;
    const { sealed, unreadable } = await rotateKeys(database, box, signal, only);
    if (unreadable.length > 0)
      log.error({ unreadable: unreadable.slice(0, 20), count: unreadable.length }, 'no key opens these');
    else if (!only && !signal.aborted) log.info({ sealed }, 'everything is sealed with the first key');
  } catch (error) {
    const { code, message } = toMailError(error);
    log.error({ code, message }, 'not everything could be sealed with the first key; the next start goes on');
  }
}

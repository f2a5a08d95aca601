import { lookup as systemLookup } from 'node:dns/promises';
import type { LookupFunction, Socket } from 'node:net';
import type { Lookup } from '@flowpost/core';
import type { Agent, Dispatcher } from 'undici';
import type { ResolvedAttachmentPolicy } from '../attachment-policy.ts';
import type { AddressGuard } from './address-guard.ts';

const defaultLookup: Lookup = (host) => systemLookup(host, { all: true });

export type GuardedAgent = Agent;
export type Response = Dispatcher.ResponseData;

/** No address of the host may be connected to. */
export class AddressRefused extends Error {
  constructor(host: string, addresses: readonly string[]) {
    super(`${host} leads to ${addresses.join(', ')}, which is not public`);
  }
}

/**
 * An HTTP client that connects only where the policy allows. The check sits in the lookup of the connection itself, so
 * the answer that was checked is the one that is used; asking twice would leave room for another answer in between.
 */
export async function createGuardedAgent(
  guard: AddressGuard,
  { urls }: ResolvedAttachmentPolicy,
  signal: AbortSignal,
): Promise<GuardedAgent> {
  const { lookup = defaultLookup, ca } = urls;
  const guardedLookup: LookupFunction = (host, { all }, done) => {
    lookup(host).then(
      (found) => {
        const allowed = found.filter(({ address }) => guard.allows(host, address));
        const [first] = allowed;
        if (found.length === 0) done(Object.assign(new Error('no address'), { code: 'ENOTFOUND' }), '');
        else if (!first) {
          done(
            new AddressRefused(
              host,
              found.map(({ address }) => address),
            ),
            '',
          );
        } else if (all) done(null, [...allowed]);
        else done(null, first.address, first.family);
      },
      (error) => done(error, ''),
    );
  };
  // Loaded by who fetches something, not by everybody who sends a message.
  const { Agent, buildConnector } = await import('undici');
  const connect = buildConnector({
    lookup: guardedLookup,
    timeout: 0,
    ...(ca !== undefined && { ca: typeof ca === 'string' ? ca : [...ca] }),
  });
  return new Agent({
    // The client heeds a signal only once a request is on its way; lookup, TCP and TLS are stopped here.
    connect: (options, done) => {
      const socket = connect(options, done) as unknown as Socket;
      const stop = (): void => void socket.destroy(new Error('stopped'));
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
      socket.once('close', () => signal.removeEventListener('abort', stop));
    },
    // The fetch has a deadline of its own for all of this together.
    headersTimeout: 0,
    bodyTimeout: 0,
    maxHeaderSize: 64 * 1024,
  });
}

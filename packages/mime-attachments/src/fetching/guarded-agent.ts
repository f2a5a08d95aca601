import type { LookupFunction, Socket } from 'node:net';
import { isError, type Lookup, portOf, systemLookup } from '@flowpost/core';
import type { Agent, buildConnector, Dispatcher } from 'undici';
import type { ResolvedAttachmentPolicy } from '../attachment-policy.ts';
import { AddressGuard, literalAddress } from './address-guard.ts';

export type GuardedAgent = Agent;
export type AgentResponse = Dispatcher.ResponseData;

/** No address of the host may be connected to. */
export class AddressRefused extends Error {
  readonly code = 'ADDRESS_REFUSED';

  /** Where a name leads within a network is not for everybody who may attach a URL. */
  constructor(host: string) {
    super(`${host} leads to no public address`);
  }
}

/**
 * A lookup that gives only addresses that may be connected to. As the lookup of the connection itself, the answer that was
 * checked is the one that is used; asking twice would leave room for another answer in between.
 */
function guardedLookup(
  allows: (host: string, address: string) => boolean,
  lookup: Lookup = systemLookup,
): LookupFunction {
  return (host, { all }, done) => {
    // One of the host's own may fail at once, or give nothing.
    const looking = (async () => (await lookup(host)) ?? [])();
    looking.then(
      (found) => {
        const allowed = found.filter(({ address }) => allows(host, address));
        const [first] = allowed;
        if (found.length === 0) done(Object.assign(new Error('no address'), { code: 'ENOTFOUND' }), '');
        else if (!first) done(new AddressRefused(host), '');
        else if (all) done(null, [...allowed]);
        else done(null, first.address, first.family);
      },
      (error) => done(isError(error) ? error : new Error('the lookup failed'), ''),
    );
  };
}

/** A connector for each port: what may be connected to depends on it, and a lookup is not told. */
function byPort(build: (port: number) => buildConnector.connector): buildConnector.connector {
  const connectors = new Map<number, buildConnector.connector>();
  return (options, done) => {
    const port = portOf(options);
    const connect = connectors.get(port) ?? build(port);
    connectors.set(port, connect);
    return connect(options, done);
  };
}

/** What {@link createGuardedFetch} lets through beside public addresses. */
export interface GuardedFetchOptions {
  /** Private hosts and networks, as for attachment URLs. */
  readonly allowedHosts?: readonly string[] | undefined;
  /** Whether a host and port may lead anywhere, because of who named them. */
  readonly trusts?: ((host: string, port: number) => boolean) | undefined;
  readonly lookup?: Lookup | undefined;
}

/**
 * How long one of several addresses may take to answer, in milliseconds: Node gives up one that takes longer, and 250 ms, its default,
 * is little for a satellite or a lost packet.
 */
const addressLimitMs = 2_500;

/**
 * A `fetch` for URLs whose author is not trusted with the network this process is in: whatever it connects to, redirects included, is
 * a public address or allowed. Its failures are those of `fetch`; the cause of a refusal has the code `ADDRESS_REFUSED`. It takes a
 * URL, as text or as a `URL`, and bodies of text, bytes, Blob and URLSearchParams; for a `Request` or `FormData`, which belong to the
 * other `fetch`, it throws a TypeError.
 *
 * @throws MailError `INPUT_INVALID` for an entry of `allowedHosts` that is none.
 */
export function createGuardedFetch({
  allowedHosts = [],
  trusts = () => false,
  lookup,
}: GuardedFetchOptions = {}): typeof globalThis.fetch {
  const guard = new AddressGuard(allowedHosts);
  const open = async () => {
    const { Agent, buildConnector, fetch } = await import('undici');
    const connectorFor = (allows: (host: string, address: string) => boolean) =>
      buildConnector({
        lookup: guardedLookup(allows, lookup),
        autoSelectFamilyAttemptTimeout: addressLimitMs,
      });
    const guarded = byPort((port) => connectorFor((host, address) => guard.allows(host, address, port)));
    const trusted = connectorFor(() => true);
    const agent = new Agent({
      connect: (options, done) => {
        const { hostname } = options;
        const address = literalAddress(hostname);
        const port = portOf(options);
        if (trusts(address ?? hostname, port)) return trusted(options, done);
        // An address needs no lookup, so nobody else would be asked.
        if (address !== undefined && !guard.allows(address, address, port))
          return done(new AddressRefused(hostname), null);
        return guarded(options, done);
      },
    });
    return { agent, fetch };
  };
  let opened: ReturnType<typeof open> | undefined;
  return async (input, init) => {
    if (input instanceof Request || init?.body instanceof FormData)
      throw new TypeError('A guarded fetch takes a URL, and no Request or FormData.');
    opened ??= open();
    const { agent, fetch } = await opened;
    return fetch(input as string, { ...(init as object), dispatcher: agent }) as unknown as Promise<Response>;
  };
}

/** An HTTP client for one fetch, that connects only where the policy allows. */
export async function createGuardedAgent(
  guard: AddressGuard,
  { urls }: ResolvedAttachmentPolicy,
  signal: AbortSignal,
): Promise<GuardedAgent> {
  const { lookup, ca } = urls;
  // Loaded by who fetches something, not by everybody who sends a message.
  const { Agent, buildConnector } = await import('undici');
  const connect = byPort((port) =>
    buildConnector({
      lookup: guardedLookup((host, address) => guard.allows(host, address, port), lookup),
      timeout: 0,
      autoSelectFamilyAttemptTimeout: addressLimitMs,
      ...(ca !== undefined && { ca: typeof ca === 'string' ? ca : [...ca] }),
    }),
  );
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

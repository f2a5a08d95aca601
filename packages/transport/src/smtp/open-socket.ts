import { isIP, isIPv4, type Socket } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { isMailError, type Lookup, type MailError, type Phase, systemLookup } from '@flowpost/core';
import { connectionError, connectionFailure, type Endpoint } from '../diagnosis/connection-failure.ts';
import { AddressRecord, connectToAny } from './happy-eyeballs.ts';

/** Loaded when wanted: it costs a command that sends one message in clear, to this machine, a tenth of its time. */
export const loadTls = () => import('node:tls');

/** Whether a socket is one of TLS. */
export const isTlsSocket = (socket: Socket | undefined): socket is TLSSocket =>
  (socket as Partial<TLSSocket> | undefined)?.encrypted === true;

const systemError = (code: string): Error => Object.assign(new Error(code), { code });

/** Waits for the end of the handshake, or for the time limit or the signal, whichever comes first. */
export function handshaken(
  socket: TLSSocket,
  limitMs: number,
  fail: (cause: unknown) => MailError,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (error?: unknown): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off('secureConnect', onReady).off('error', onError).off('close', onClose);
      if (error === undefined) {
        resolve();
        return;
      }
      socket.on('error', () => undefined).destroy();
      reject(error);
    };
    const onReady = (): void => finish();
    const onError = (cause: unknown): void => finish(fail(cause));
    const onClose = (): void => onError(systemError('ECONNRESET'));
    const onAbort = (): void => finish(signal?.reason);
    const timer = setTimeout(() => onError(systemError('ETIMEDOUT')), limitMs);
    signal?.addEventListener('abort', onAbort);
    socket.once('secureConnect', onReady).once('error', onError).once('close', onClose);
  });
}

async function resolveHost(
  endpoint: Endpoint,
  lookup: Lookup,
  limitMs: number,
  signal: AbortSignal | undefined,
) {
  const { host } = endpoint;
  const family = host.includes(':') ? isIP(host) : isIPv4(host) ? 4 : 0;
  if (family > 0) return [{ address: host, family }];
  // Never exists (RFC 6761 section 6.4), so no server need be asked.
  if (/(?:^|\.)invalid\.?$/i.test(host)) throw connectionError('HOST_NOT_FOUND', 'resolve', endpoint);
  let stopWaiting = (): void => undefined;
  const late = new Promise<never>((_, reject) => {
    const onAbort = (): void => reject(signal?.reason);
    const timer = setTimeout(() => reject(connectionError('DNS_UNAVAILABLE', 'resolve', endpoint)), limitMs);
    signal?.addEventListener('abort', onAbort);
    stopWaiting = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
  });
  try {
    // One of the host's own may fail at once, or give nothing.
    const found = (async () => (await lookup(host)) ?? [])().catch((cause) => {
      throw connectionFailure(cause, 'resolve', endpoint);
    });
    const addresses = await Promise.race([found, late]);
    if (addresses.length === 0) throw connectionError('HOST_NOT_FOUND', 'resolve', endpoint);
    return addresses;
  } finally {
    stopWaiting();
  }
}

export interface OpenSocketOptions extends Endpoint {
  /** For TLS from the first byte; absent for a plain socket. */
  readonly tls?: ConnectionOptions | undefined;
  readonly lookup?: Lookup | undefined;
  readonly record?: AddressRecord | undefined;
  /** Each for the lookup, the TCP connection and the handshake. */
  readonly connectMs: number;
  readonly handshakeMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Told which phase begins. */
  readonly onPhase?: ((phase: Phase) => void) | undefined;
}

/**
 * Opens a socket to a server: name, TCP, and TLS when wanted, told apart, because each has another remedy.
 *
 * @throws MailError with phase `resolve`, `connect` or `tls`; the signal's reason when aborted.
 */
export async function openSocket(options: OpenSocketOptions): Promise<Socket | TLSSocket> {
  const { host, port, signal, connectMs, handshakeMs } = options;
  const endpoint = { host, port };
  const tls = options.tls && (await loadTls());
  signal?.throwIfAborted();
  options.onPhase?.('resolve');
  const addresses = await resolveHost(endpoint, options.lookup ?? systemLookup, connectMs, signal);
  signal?.throwIfAborted();
  options.onPhase?.('connect');
  const record = options.record ?? new AddressRecord();
  const socket = await connectToAny(record.inOrder(addresses), port, connectMs, signal).catch((cause) => {
    throw signal?.aborted ? cause : connectionFailure(cause, 'connect', endpoint);
  });
  if (!tls) return socket;
  options.onPhase?.('tls');
  const { remoteAddress = '' } = socket;
  const secure = tls.connect({ ...options.tls, socket });
  try {
    const fail = (cause: unknown) => connectionFailure(cause, 'tls', endpoint);
    await handshaken(secure, handshakeMs, fail, signal);
    return secure;
  } catch (error) {
    if (isMailError(error) && error.retryable) record.failed(remoteAddress);
    throw error;
  }
}

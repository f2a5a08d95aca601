import { connect, type Socket } from 'node:net';

export interface Address {
  readonly address: string;
  readonly family: number;
}

/** How long after one address the next is tried, in milliseconds (RFC 8305 section 5). */
const attemptDelayMs = 250;

/** Of more, the oldest are forgotten. */
const mostAddresses = 100;

/** The families take turns, beginning with that of the first address (RFC 8305 section 4). */
function inTurns(addresses: readonly Address[]): Address[] {
  const first = addresses.filter(({ family }) => family === addresses[0]?.family);
  const others = addresses.filter(({ family }) => family !== addresses[0]?.family);
  const turns = first.flatMap((one, index) => [one, ...others.slice(index, index + 1)]);
  return [...turns, ...others.slice(first.length)];
}

/**
 * Which addresses of a server took a connection and then did not serve. They are tried last: a host has several so that another
 * one can be asked (RFC 5321 section 5.1).
 */
export class AddressRecord {
  readonly #failed = new Set<string>();

  /** The order to try them in: the families in turns, and behind them what did not serve. */
  inOrder(addresses: readonly Address[]): readonly Address[] {
    const isLast = ({ address }: Address): number => Number(this.#failed.has(address));
    return inTurns(addresses).toSorted((a, b) => isLast(a) - isLast(b));
  }

  failed(address: string): void {
    this.#failed.delete(address);
    const [oldest] = this.#failed;
    if (oldest !== undefined && this.#failed.size === mostAddresses) this.#failed.delete(oldest);
    this.#failed.add(address);
  }

  served(address: string): void {
    this.#failed.delete(address);
  }
}

/**
 * Connects to whichever of several addresses answers first, tried in their order (RFC 8305). An address that takes its time is not given up for that
 * while the next one is tried, as Node's own way of doing it does.
 *
 * @param limitMs how long that may take in all, in milliseconds.
 * @throws what the system said, an AggregateError of what it said of each; an error with the code `ETIMEDOUT`; the signal's reason when aborted.
 */
export function connectToAny(
  addresses: readonly Address[],
  port: number,
  limitMs: number,
  signal: AbortSignal | undefined,
): Promise<Socket> {
  const waiting = [...addresses];
  const trying = new Set<Socket>();
  const failures: unknown[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  let next: NodeJS.Timeout | undefined;
  const end = (): void => {
    clearTimeout(next);
    clearTimeout(late);
    signal?.removeEventListener('abort', onAbort);
    // Whatever becomes of them now is nobody's news.
    for (const socket of trying) socket.on('error', () => undefined).destroy();
  };
  const fail = (cause: unknown): void => {
    end();
    reject(cause);
  };
  const onAbort = (): void => fail(signal?.reason);
  const late = setTimeout(() => fail(Object.assign(new Error('late'), { code: 'ETIMEDOUT' })), limitMs);
  const tryNext = (): void => {
    clearTimeout(next);
    const host = waiting.shift()?.address;
    if (host === undefined) return;
    const socket = connect({ host, port, noDelay: true });
    trying.add(socket);
    const onError = (error: unknown): void => {
      failures.push(error);
      trying.delete(socket);
      if (waiting.length > 0) tryNext();
      else if (trying.size === 0) fail(failures.length > 1 ? new AggregateError(failures) : error);
    };
    socket.once('error', onError).once('connect', () => {
      socket.off('error', onError);
      trying.delete(socket);
      end();
      resolve(socket);
    });
    if (waiting.length > 0) next = setTimeout(tryNext, attemptDelayMs);
  };
  signal?.addEventListener('abort', onAbort);
  tryNext();
  return promise;
}

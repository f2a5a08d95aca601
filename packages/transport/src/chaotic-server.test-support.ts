import type { Socket } from 'node:net';
import { RawServer, speakSmtp } from '@flowpost/testing';

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What may happen at each stage; what stands there several times is as many times more likely. */
const fates = {
  GREETING: ['busy', 'cut'],
  MAIL: ['later', 'later', 'never', 'cut', 'bye'],
  RCPT: ['later', 'later', 'later', 'never', 'never', 'cut'],
  DATA: ['later', 'later', 'never', 'cut', 'bye'],
  dot: [
    'kept, cut',
    'kept, cut',
    'lost, cut',
    'lost, cut',
    'kept, silent',
    'lost, silent',
    'later',
    'never',
    'bye',
  ],
} as const;
type Stage = keyof typeof fates;

export interface ChaosOptions {
  readonly protocol: 'smtp' | 'lmtp';
  readonly random: () => number;
  /** How often something happens, from 0 to 1. */
  readonly trouble: number;
}

/** A mail server to which everything happens that does, at random, and that knows who really has what. */
export class ChaoticServer implements AsyncDisposable {
  readonly #options: ChaosOptions;
  readonly #kept = new Map<string, number>();
  #server: RawServer | undefined;

  private constructor(options: ChaosOptions) {
    this.#options = options;
  }

  static async start(options: ChaosOptions): Promise<ChaoticServer> {
    const chaos = new ChaoticServer(options);
    chaos.#server = await RawServer.start((socket) => chaos.#serve(socket));
    return chaos;
  }

  get port(): number {
    return this.#server?.port ?? 0;
  }

  get openConnections(): number {
    return this.#server?.openConnections ?? 0;
  }

  /** How many copies of the message from a sender somebody has. */
  copies(from: string, to: string): number {
    return this.#kept.get(`${from} ${to}`) ?? 0;
  }

  #fateAt(stage: Stage): string {
    const { random, trouble } = this.#options;
    if (random() >= trouble) return 'well';
    const possible = fates[stage];
    return possible[Math.floor(random() * possible.length)] ?? 'well';
  }

  #serve(socket: Socket): void {
    const isLmtp = this.#options.protocol === 'lmtp';
    let from = '';
    let to: string[] = [];
    /** It says nothing any more, whatever it is asked. */
    let isSilent = false;
    const keep = (one: string): void => {
      this.#kept.set(`${from} ${one}`, this.copies(from, one) + 1);
    };
    const cut = (said = ''): null => {
      if (said === '') socket.destroy();
      else socket.end(`${said}\r\n`);
      return null;
    };
    const simple = (fate: string): string | null | undefined => {
      if (fate === 'later') return '451 4.3.0 later';
      if (fate === 'never') return '550 5.1.1 never';
      if (fate === 'bye' || fate === 'busy') return cut('421 4.3.0 bye');
      return fate === 'cut' ? cut() : undefined;
    };
    /** What is said of the message: once, or for each who gets it. */
    const verdict = (): string | null => {
      const said: string[] = [];
      for (const one of isLmtp ? to : [undefined]) {
        const fate = this.#fateAt('dot');
        if (fate.startsWith('kept') || fate === 'well') for (const who of one ? [one] : to) keep(who);
        if (fate.endsWith('silent')) {
          isSilent = true;
          return said.length > 0 ? said.join('\r\n') : null;
        }
        if (fate.endsWith('cut')) return cut(said.join('\r\n'));
        if (fate === 'bye') return cut([...said, '421 4.3.0 bye'].join('\r\n'));
        said.push(simple(fate) ?? '250 2.0.0 taken');
      }
      return said.join('\r\n');
    };
    speakSmtp(socket, (command) => {
      if (isSilent) return null;
      if (command === 'GREETING') return simple(this.#fateAt('GREETING'));
      if (/^(?:EHLO|LHLO)/.test(command)) return '250-chaos\r\n250 PIPELINING';
      if (command === '.') return verdict();
      if (command.startsWith('MAIL')) {
        const reply = simple(this.#fateAt('MAIL'));
        [from, to] = [reply === undefined ? (/<(.*?)>/.exec(command)?.[1] ?? '') : '', []];
        return reply;
      }
      if (command.startsWith('RCPT')) {
        if (from === '') return '503 5.5.1 no sender';
        const reply = simple(this.#fateAt('RCPT'));
        if (reply === undefined) to.push(/<(.*?)>/.exec(command)?.[1] ?? '');
        return reply;
      }
      if (command !== 'DATA') return undefined;
      return to.length === 0 ? '554 5.5.1 no recipients' : simple(this.#fateAt('DATA'));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
  }
}

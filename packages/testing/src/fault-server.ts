import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { KeyPair } from './certificates.ts';
import type { Fault, FaultStage } from './faults.ts';
import { messageEnd } from './message-end.ts';

/** What goes wrong, where, and how often. */
export interface FaultServerOptions {
  readonly stage: FaultStage;
  readonly fault: Fault;
  /** How often it goes wrong before everything works. Default always. */
  readonly times?: number;
  /** Offer STARTTLS with this certificate. */
  readonly certificate?: KeyPair;
  /** Offer AUTH PLAIN. */
  readonly auth?: boolean;
  /** Whether PIPELINING is offered. Default yes. */
  readonly pipelining?: boolean;
  /** How replies are written. Default `whole`. */
  readonly delivery?: 'whole' | 'lines' | 'bytes';
  /** Default 0: any free port. */
  readonly port?: number;
  /** Told of every complete message. */
  readonly onMessage?: (message: string, envelope: FaultEnvelope) => void;
}

/** Who a message was from, and for whom it was taken. */
export interface FaultEnvelope {
  readonly from: string;
  readonly to: readonly string[];
}

/** The address in `MAIL FROM:<...>` and `RCPT TO:<...>`. */
const pathIn = (line: string): string => /<([^>]*)>/.exec(line)?.[1] ?? '';

const replies: Readonly<Record<FaultStage, string>> = {
  greeting: '220 fault server',
  ehlo: '250 ok',
  starttls: '220 go ahead',
  handshake: '',
  auth: '235 2.7.0 welcome',
  mail: '250 2.1.0 ok',
  rcpt: '250 2.1.5 ok',
  data: '354 go on',
  body: '',
  dot: '250 2.0.0 taken',
};

/** An SMTP server that does everything right but one thing. */
export class FaultServer implements AsyncDisposable {
  /** Complete messages, up to and including the final dot. */
  readonly messages: string[] = [];
  connections = 0;
  readonly #options: FaultServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #left: number;

  private constructor(options: FaultServerOptions) {
    this.#options = options;
    this.#left = options.times ?? Number.POSITIVE_INFINITY;
    this.#server = createServer((socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      new Dialogue(this, options, socket).start();
    });
  }

  static async start(options: FaultServerOptions): Promise<FaultServer> {
    const server = new FaultServer(options);
    server.#server.listen(options.port ?? 0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  /** Whether it goes wrong at this stage now; counts it. */
  strikes(stage: FaultStage): boolean {
    if (stage !== this.#options.stage || this.#left <= 0) return false;
    this.#left--;
    return true;
  }

  /** Takes a complete message. */
  keep(message: string, envelope: FaultEnvelope): void {
    this.messages.push(message);
    this.#options.onMessage?.(message, envelope);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** One connection to it. */
class Dialogue {
  readonly #server: FaultServer;
  readonly #options: FaultServerOptions;
  #socket: Socket;
  /** What lies under TLS, which alone can be reset. */
  readonly #plain: Socket;
  #pending: Buffer = Buffer.alloc(0);
  /** How much of a message was looked at; undefined between messages. */
  #seen: number | undefined;
  #from = '';
  #recipients: string[] = [];
  #secure = false;
  #dead = false;
  /** Replies are written one after another, however slowly. */
  #writing: Promise<void> = Promise.resolve();

  constructor(server: FaultServer, options: FaultServerOptions, socket: Socket) {
    this.#server = server;
    this.#options = options;
    this.#socket = socket;
    this.#plain = socket;
  }

  start(): void {
    this.#listen(this.#socket);
    this.#answer('greeting');
  }

  #listen(socket: Socket): void {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => this.#take(chunk));
  }

  #take(chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (!this.#dead && this.#pending.length > 0) {
      if (!(this.#seen === undefined ? this.#takeCommand() : this.#takeBody(this.#seen))) return;
    }
  }

  /** Takes a command; whether there was a whole one. */
  #takeCommand(): boolean {
    const at = this.#pending.indexOf('\r\n');
    if (at < 0) return false;
    const line = this.#pending.toString('utf8', 0, at);
    this.#pending = this.#pending.subarray(at + 2);
    this.#command(line);
    return true;
  }

  /** Takes a message; whether there was a whole one. */
  #takeBody(seen: number): boolean {
    if (this.#server.strikes('body')) {
      this.#fail('body');
      if (this.#dead) return false;
    }
    const end = messageEnd(this.#pending, seen);
    this.#seen = this.#pending.length;
    if (end === undefined) return false;
    const body = this.#pending.toString('utf8', 0, end - '.\r\n'.length);
    this.#pending = this.#pending.subarray(end);
    this.#seen = undefined;
    const envelope = { from: this.#from, to: this.#recipients };
    this.#answer('dot', undefined, () => this.#recipients.length > 0 && this.#server.keep(body, envelope));
    return true;
  }

  #command(line: string): void {
    const verb = line.slice(0, 4).toUpperCase();
    if (verb === 'EHLO' || verb === 'HELO') {
      if (verb === 'HELO') this.#write('250 fault server\r\n');
      else this.#answer('ehlo', ['250 fault server', ...this.#offers()]);
    } else if (verb === 'STAR') this.#startTls();
    else if (verb === 'AUTH') this.#answer('auth');
    else if (verb === 'MAIL') {
      this.#from = pathIn(line);
      this.#recipients = [];
      this.#answer('mail');
    } else if (verb === 'RCPT') {
      if (this.#answer('rcpt')) this.#recipients.push(pathIn(line));
    } else if (verb === 'DATA') {
      if (this.#answer('data')) this.#seen = 0;
    } else if (verb === 'QUIT') {
      this.#write('221 bye\r\n');
      this.#socket.end();
    } else this.#write('250 ok\r\n');
  }

  #offers(): string[] {
    const { certificate, auth, pipelining = true } = this.#options;
    return [
      ...(pipelining ? ['250 PIPELINING'] : []),
      ...(certificate && !this.#secure ? ['250 STARTTLS'] : []),
      ...(auth ? ['250 AUTH PLAIN'] : []),
    ];
  }

  #startTls(): void {
    const { certificate } = this.#options;
    if (!this.#answer('starttls') || !certificate) return;
    const plain = this.#socket;
    plain.removeAllListeners('data');
    if (this.#server.strikes('handshake')) {
      this.#fail('handshake');
      return;
    }
    const secure = new TLSSocket(plain, { isServer: true, key: certificate.key, cert: certificate.cert });
    this.#secure = true;
    this.#socket = secure;
    this.#listen(secure);
  }

  /** Gives the usual answer, or goes wrong; whether the usual thing goes on. */
  #answer(
    stage: FaultStage,
    lines: readonly string[] = [replies[stage]],
    take = (): unknown => undefined,
  ): boolean {
    const strikes = this.#server.strikes(stage);
    // Refused is not taken; whatever else goes wrong happens to a server that has it.
    if (!strikes || !['4yz', '5yz', '421'].includes(this.#options.fault)) take();
    if (strikes) return this.#fail(stage, lines);
    this.#write(toReply(lines));
    return true;
  }

  #fail(stage: FaultStage, lines: readonly string[] = []): boolean {
    const usual = lines.length > 0 ? toReply(lines) : '';
    switch (this.#options.fault) {
      case 'fin':
        this.#dead = true;
        this.#socket.end();
        return false;
      case 'rst':
        this.#dead = true;
        this.#plain.resetAndDestroy();
        return false;
      case 'silence':
        this.#dead = true;
        this.#socket.pause();
        return false;
      case '4yz':
        this.#write('451 4.3.0 later\r\n');
        return false;
      case '421':
        this.#write('421 4.3.2 closing\r\n');
        this.#dead = true;
        void this.#writing.then(() => this.#socket.end());
        return false;
      case '5yz':
        this.#write('554 5.3.0 no\r\n');
        return false;
      case 'garbage':
        this.#write('what do you want?\r\n');
        return false;
      case 'endless':
        this.#write('250 '.padEnd(20_000, 'x'));
        return false;
      case 'multiline':
        this.#write(
          `${toReply([`${lines[0]?.slice(0, 3)} first`, `${lines[0]?.slice(0, 3)} second`, ...lines])}`,
        );
        return true;
      case 'early':
        // Behind the 220 to STARTTLS it would be an injection; elsewhere it stands before what was asked for.
        this.#write(stage === 'starttls' ? `${usual}250 early\r\n` : `250 early\r\n${usual}`);
        return true;
    }
  }

  #write(text: string): void {
    const { delivery = 'whole' } = this.#options;
    const socket = this.#socket;
    if (delivery === 'whole') {
      socket.write(text);
      return;
    }
    const pieces = delivery === 'lines' ? text.split(/(?<=\n)/) : [...text];
    this.#writing = this.#writing.then(async () => {
      for (const piece of pieces) {
        socket.write(piece);
        await new Promise(setImmediate);
      }
    });
  }
}

/** Lines as one reply: all but the last with a hyphen behind the code. */
function toReply(lines: readonly string[]): string {
  return lines
    .map((line, index) => `${line.slice(0, 3)}${index < lines.length - 1 ? '-' : ' '}${line.slice(4)}\r\n`)
    .join('');
}

import type { AddressInfo, Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { SMTPServer, type SMTPServerAuthentication, type SMTPServerSession } from 'smtp-server';
import type { KeyPair } from './certificates.ts';
import { type ParsedMail, parseMail } from './parse-mail.ts';

/** A reply other than success. */
export interface Refusal {
  readonly code: number;
  readonly text: string;
}

type Decide<Value> = (value: Value) => Refusal | undefined | Promise<Refusal | undefined>;

const tooMany = { code: 452, text: '4.5.3 Too many recipients' };

/** Where an inbox listens, whom it lets in, and what it takes. */
export interface SmtpInboxOptions {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
  /** `none`: no TLS at all. `starttls`: offered. `implicit`: from the first byte. Default `none`. */
  readonly tls?: 'none' | 'starttls' | 'implicit';
  /** Needed for TLS. */
  readonly certificate?: KeyPair;
  /** TLS versions to offer, as in `tls.createServer`. */
  readonly tlsVersions?: {
    readonly minVersion?: 'TLSv1' | 'TLSv1.2' | 'TLSv1.3';
    readonly maxVersion?: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';
  };
  /** Passwords by user name. When given, clients must log in. */
  readonly users?: Readonly<Record<string, string>>;
  /** Bearer tokens by user name, for XOAUTH2. When given, clients must log in. */
  readonly tokens?: Readonly<Record<string, string>>;
  /** How a token is refused: `direct` with 535 as Microsoft does, `challenge` with 334 and JSON first as Google does. */
  readonly tokenRefusal?: 'direct' | 'challenge';
  /** SASL mechanisms offered. Default PLAIN and LOGIN for users, XOAUTH2 for tokens. */
  readonly authMethods?: readonly ('PLAIN' | 'LOGIN' | 'XOAUTH2' | 'CRAM-MD5')[];
  /** EHLO keywords not to announce. */
  readonly hide?: readonly ('PIPELINING' | '8BITMIME' | 'SMTPUTF8')[];
  /** The announced SIZE limit in bytes. */
  readonly size?: number;
  /** More are refused with 452 4.5.3 (RFC 5321 section 4.5.3.1.10). */
  readonly recipientsPerMessage?: number;
  /** Refuses single commands: return a reply to refuse, nothing to go on. */
  readonly refuse?: {
    readonly connect?: Decide<SMTPServerSession>;
    readonly auth?: Decide<string>;
    readonly mailFrom?: Decide<string>;
    readonly rcptTo?: Decide<string>;
    /** Called with the whole message, before it is taken. */
    readonly message?: Decide<Buffer>;
  };
}

/** A message that arrived: parsed, as it was sent, and over which session. */
export interface ReceivedMail extends ParsedMail {
  readonly envelope: { readonly from: string; readonly to: readonly string[] };
  /** The message as received, after dot-unstuffing. */
  readonly raw: Buffer;
  /** Whether it came over TLS. */
  readonly secure: boolean;
  /** Who was logged in. */
  readonly user: string | undefined;
  /** The id of the session it came in. */
  readonly sessionId: string;
}

function refusalError({ code, text }: Refusal): Error {
  return Object.assign(new Error(text), { responseCode: code });
}

/**
 * A real SMTP server that keeps what it gets, for tests and for trying things out. It listens on a loopback
 * port of its own; nothing leaves the machine.
 */
export class SmtpInbox implements AsyncDisposable {
  readonly messages: ReceivedMail[] = [];
  /** How many TCP connections were made. */
  connections = 0;
  /** User names of successful logins, one for each. */
  readonly logins: string[] = [];
  /** SASL mechanisms of all login attempts, failed ones included. */
  readonly authAttempts: string[] = [];
  readonly #server: SMTPServer;
  readonly #sockets = new Set<Socket>();
  /** Client ports of TLS handshakes under way, and of those to be cut when they end. */
  readonly #handshakes = new Set<number>();
  readonly #doomedPorts = new Set<number>();
  readonly #options: SmtpInboxOptions;
  readonly #listeners = new Set<(mail: ReceivedMail) => void>();

  private constructor(options: SmtpInboxOptions) {
    this.#options = options;
    const { tls = 'none', certificate, users, tokens, hide = [], size, tlsVersions } = options;
    const wantsLogin = users !== undefined || tokens !== undefined;
    const methods = options.authMethods ?? [
      ...(users ? ['PLAIN', 'LOGIN'] : []),
      ...(tokens ? ['XOAUTH2'] : []),
    ];
    this.#server = new SMTPServer({
      secure: tls === 'implicit',
      ...(certificate && { cert: certificate.cert, key: certificate.key }),
      ...tlsVersions,
      ...(size !== undefined && { size, rejectOversized: true }),
      disabledCommands: [...(tls === 'starttls' ? [] : ['STARTTLS']), ...(wantsLogin ? [] : ['AUTH'])],
      authMethods: [...methods],
      authOptional: !wantsLogin,
      allowInsecureAuth: true,
      disableReverseLookup: true,
      hidePIPELINING: hide.includes('PIPELINING'),
      hide8BITMIME: hide.includes('8BITMIME'),
      hideSMTPUTF8: hide.includes('SMTPUTF8'),
      logger: false,
      closeTimeout: 100,
      onConnect: (session, done) => this.#decide(options.refuse?.connect, session, done),
      onAuth: (auth, _session, done) => {
        this.#authenticate(auth).then(
          (user) => done(null, { user }),
          (error) => {
            const withChallenge = auth.method === 'XOAUTH2' && options.tokenRefusal === 'challenge';
            if (withChallenge) done(null, { data: { status: '401', schemes: 'bearer' } });
            else done(error);
          },
        );
      },
      onMailFrom: ({ address }, _session, done) => this.#decide(options.refuse?.mailFrom, address, done),
      onRcptTo: ({ address }, { envelope }, done) => {
        const { recipientsPerMessage = Number.POSITIVE_INFINITY, refuse } = options;
        const isFull = envelope.rcptTo.length >= recipientsPerMessage;
        const refusal = async (one: string) =>
          (await refuse?.rcptTo?.(one)) ?? (isFull ? tooMany : undefined);
        this.#decide(refusal, address, done);
      },
      onData: (stream, session, done) => {
        buffer(stream)
          .then((raw) => this.#receive(raw, session))
          .then((id) => done(null, `OK: received as ${id}`), done);
      },
    });
    // Clients that break off in the middle of a session are what many tests are about.
    this.#server.on('error', () => undefined);
    const track = (socket: Socket): void => {
      if (this.#doomedPorts.delete(socket.remotePort ?? 0)) socket.destroy();
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    };
    this.#server.server.on('connection', (socket: Socket) => {
      this.connections++;
      if (tls !== 'implicit') return track(socket);
      // Only the TLS socket on top may be destroyed: taking this one away under a handshake brings Node down.
      const port = socket.remotePort ?? 0;
      this.#handshakes.add(port);
      socket.once('close', () => this.#handshakes.delete(port));
    });
    this.#server.server.on('secureConnection', (socket: Socket) => {
      this.#handshakes.delete(socket.remotePort ?? 0);
      track(socket);
    });
  }

  static async start(options: SmtpInboxOptions = {}): Promise<SmtpInbox> {
    const inbox = new SmtpInbox(options);
    await new Promise<void>((resolve, reject) => {
      inbox.#server.once('error', reject);
      inbox.#server.listen(options.port ?? 0, options.host ?? '127.0.0.1', () => {
        inbox.#server.off('error', reject);
        resolve();
      });
    });
    return inbox;
  }

  get port(): number {
    return (this.#server.server.address() as AddressInfo).port;
  }

  get host(): string {
    return this.#options.host ?? '127.0.0.1';
  }

  /** `smtp://` or `smtps://` with host and port, without credentials. */
  get url(): string {
    const host = this.host.includes(':') ? `[${this.host}]` : this.host;
    return `${this.#options.tls === 'implicit' ? 'smtps' : 'smtp'}://${host}:${this.port}`;
  }

  /** Calls a listener for each message from now on; returns how to stop that. */
  onMessage(listener: (mail: ReceivedMail) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves with the first `count` messages, as soon as there are so many. */
  async waitForMessages(count: number): Promise<readonly ReceivedMail[]> {
    if (this.messages.length < count) {
      await new Promise<void>((resolve) => {
        const stop = this.onMessage(() => {
          if (this.messages.length < count) return;
          stop();
          resolve();
        });
      });
    }
    return this.messages.slice(0, count);
  }

  /** How many connections are open now. */
  get openConnections(): number {
    // Not the sockets: one that was upgraded by STARTTLS does not say when it ends.
    return this.#server.connections.size;
  }

  /** Cuts every open connection, without a word. */
  dropConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const port of this.#handshakes) this.#doomedPorts.add(port);
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.dropConnections();
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #decide<Value>(
    decide: Decide<Value> | undefined,
    value: Value,
    done: (error?: Error | null) => void,
  ): void {
    Promise.resolve(decide?.(value)).then((refusal) => done(refusal ? refusalError(refusal) : null), done);
  }

  async #authenticate(auth: SMTPServerAuthentication): Promise<string> {
    this.authAttempts.push(auth.method);
    const username = auth.username ?? '';
    const refusal = await this.#options.refuse?.auth?.(username);
    if (refusal) throw refusalError(refusal);
    const { users = {}, tokens = {} } = this.#options;
    const password = Object.hasOwn(users, username) ? users[username] : undefined;
    const token = Object.hasOwn(tokens, username) ? tokens[username] : undefined;
    const accepted =
      auth.method === 'XOAUTH2'
        ? token !== undefined && auth.accessToken === token
        : password !== undefined &&
          (auth.method === 'CRAM-MD5' ? auth.validatePassword(password) : auth.password === password);
    if (!accepted) throw refusalError({ code: 535, text: '5.7.8 Authentication credentials invalid' });
    this.logins.push(username);
    return username;
  }

  async #receive(raw: Buffer, session: SMTPServerSession): Promise<string> {
    const refusal = await this.#options.refuse?.message?.(raw);
    if (refusal) throw refusalError(refusal);
    const { mailFrom, rcptTo } = session.envelope;
    const mail: ReceivedMail = {
      ...(await parseMail(raw)),
      envelope: { from: mailFrom ? mailFrom.address : '', to: rcptTo.map(({ address }) => address) },
      raw,
      secure: session.secure,
      user: session.user,
      sessionId: session.id,
    };
    this.messages.push(mail);
    for (const listener of this.#listeners) listener(mail);
    return `${session.id}-${this.messages.length}`;
  }
}

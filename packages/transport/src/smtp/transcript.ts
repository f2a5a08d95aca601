import { regardless, type TranscriptLine, type TranscriptListener } from '@flowpost/core';

const hidden = '***';

/** Hands a line to a listener, who may fail without consequences: he does not decide what becomes of a message. */
export function tell(listener: TranscriptListener | undefined, line: TranscriptLine): void {
  if (listener) regardless(() => listener(line));
}

/**
 * Writes down an SMTP dialogue so that it can be shown to anybody: what follows AUTH is replaced until the server has
 * decided, the message is told by its size, and what a server echoes of the login is taken out.
 */
export class Transcript {
  /** Who listens now; nobody most of the time. */
  listener: TranscriptListener | undefined;
  readonly #scrub: (text: string) => string;
  #inLogin = false;

  constructor(scrub: (text: string) => string) {
    this.#scrub = scrub;
  }

  /** What a listener does is its own business: the message is no less sent when it fails. */
  #tell(line: TranscriptLine): void {
    tell(this.listener, line);
  }

  /** Commands as they are sent, one or several with their line ends. */
  sent(commands: string): void {
    // Only what follows AUTH must be known even when nobody listens.
    if (!this.listener && !this.#inLogin && !/^AUTH /i.test(commands)) return;
    for (const line of commands.split('\r\n').slice(0, -1)) {
      const [, auth] = /^(AUTH +[^ ]+)/i.exec(line) ?? [];
      const text = auth !== undefined ? this.#login(auth, line) : this.#inLogin ? hidden : line;
      this.#tell({ from: 'client', text: this.#scrub(text) });
    }
  }

  #login(auth: string, line: string): string {
    this.#inLogin = true;
    return line.length > auth.length ? `${auth} ${hidden}` : auth;
  }

  received(code: number, text: string): void {
    const isChallenge = this.#inLogin && code === 334;
    if (code !== 334) this.#inLogin = false;
    if (!this.listener) return;
    // Challenges may repeat what the client said.
    const shown = isChallenge ? `334 ${hidden}` : this.#scrub(text);
    for (const line of shown.split('\n')) this.#tell({ from: 'server', text: line });
  }

  /** The message, or a part of it. */
  message(pieces: readonly Uint8Array[]): void {
    if (!this.listener) return;
    const messageBytes = pieces.reduce((sum, { length }) => sum + length, 0);
    this.#tell({ from: 'client', text: `(${messageBytes} bytes of the message)`, messageBytes });
  }

  note(text: string): void {
    this.#tell({ from: 'client', text: `(${text})` });
  }
}

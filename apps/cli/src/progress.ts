/** Whether who reads along can be drawn to: a person at a terminal that knows how. */
export const canDraw = process.stderr.isTTY === true && process.env.TERM !== 'dumb';

const hideCursor = '\x1b[?25l';
const showCursor = '\x1b[?25h';
const clearLine = '\r\x1b[2K';
/** How often it is drawn at most, in milliseconds. */
const everyMs = 100;

/** What ends a process without its exit being heard of. */
const unheard = ['SIGHUP', 'SIGQUIT'] as const;

let drawn = false;

/** Takes the line of progress away, before something else is written. It comes back by itself. */
export function clearProgress(): void {
  if (drawn) process.stderr.write(clearLine);
  drawn = false;
}

/** Rounded once, or there would be 60 seconds in a minute. */
export function duration(exact: number): string {
  const seconds = Math.ceil(exact);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.ceil(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export interface ProgressState {
  /** From 0 to 1, when it can be known. */
  readonly fraction?: number | undefined;
  readonly text: string;
}

/**
 * A line that shows how far something is, for people at a terminal; for anybody else nothing. Disposing it takes the line away and
 * gives the cursor back, and so does the end of the process.
 */
export class Progress implements Disposable {
  readonly #state: () => ProgressState;
  readonly #started = performance.now();
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #restore = (): void => {
    clearProgress();
    process.stderr.write(showCursor);
  };

  /** Ctrl-Z: the shell gets its cursor back for as long. */
  readonly #stop = (): void => {
    this.#restore();
    // As it would have without this: where nobody could wake it, it does not stop.
    process.off('SIGTSTP', this.#stop);
    process.kill(process.pid, 'SIGTSTP');
    setImmediate(() => {
      if (this.#timer !== undefined) process.on('SIGTSTP', this.#stop);
    });
  };
  readonly #goOn = (): void => {
    process.stderr.write(hideCursor);
  };

  /** Ends as it would have without this. */
  readonly #end = (signal: NodeJS.Signals): void => {
    this.#restore();
    for (const one of unheard) process.off(one, this.#end);
    process.kill(process.pid, signal);
  };

  /** @param wanted not when somebody asked for quiet. */
  constructor(state: () => ProgressState, wanted = true) {
    this.#state = state;
    if (!wanted || !canDraw) return;
    process.stderr.write(hideCursor);
    process.once('exit', this.#restore);
    for (const signal of unheard) process.once(signal, this.#end);
    process.on('SIGTSTP', this.#stop);
    process.on('SIGCONT', this.#goOn);
    this.#timer = setInterval(() => this.#draw(), everyMs);
    this.#timer.unref();
  }

  #draw(): void {
    const { fraction, text } = this.#state();
    const seconds = (performance.now() - this.#started) / 1_000;
    const width = 24;
    const known = fraction !== undefined && fraction > 0;
    const filled = Math.round(width * Math.min(fraction ?? 0, 1));
    const bar = fraction === undefined ? '' : `[${'#'.repeat(filled)}${'.'.repeat(width - filled)}] `;
    const left =
      known && fraction < 1 && seconds > 1 ? `, ${duration((seconds / fraction) * (1 - fraction))} left` : '';
    const line = `${bar}${text}${left}`.slice(0, (process.stderr.columns || 80) - 1);
    process.stderr.write(`${clearLine}${line}`);
    drawn = true;
  }

  [Symbol.dispose](): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    process.off('exit', this.#restore);
    for (const signal of unheard) process.off(signal, this.#end);
    process.off('SIGTSTP', this.#stop);
    process.off('SIGCONT', this.#goOn);
    this.#restore();
  }
}

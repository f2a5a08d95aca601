import { type MailErrorJson, type Phase, type TranscriptListener, toMailError } from '@flowpost/core';
import type { SenderOptions } from '../sending.ts';

/** The steps of a verification, in order. */
export const verifySteps = ['dns', 'tcp', 'tls', 'ehlo', 'token', 'auth', 'sender'] as const;
/** A step of a verification; see {@link verifySteps}. */
export type VerifyStepName = (typeof verifySteps)[number];

/** One step of a verification. */
export interface VerifyStep {
  readonly step: VerifyStepName;
  readonly status: 'ok' | 'failed' | 'skipped';
  /** How long it took, in milliseconds. */
  readonly ms: number;
  /** One line for people. */
  readonly message: string;
  /** What to do, when there is something to do. */
  readonly hint?: string;
  /** What was found, for programs. Never a secret. */
  readonly details?: Readonly<Record<string, unknown>>;
  readonly error?: MailErrorJson;
}

/** What a verification found: every step, up to the first that failed; those after it are skipped. */
export interface VerifyReport {
  readonly ok: boolean;
  readonly steps: readonly VerifyStep[];
}

/** What a verification works with, and who hears of it while it runs. */
export interface VerifyOptions extends SenderOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told of each step as soon as its outcome is known. */
  readonly onStep?: ((step: VerifyStep) => void) | undefined;
  /** Hears the dialogue with the server, without secrets. */
  readonly transcript?: TranscriptListener | undefined;
}

/** Collects steps in their order; after a failure the rest are skipped. */
export class Steps {
  readonly #found = new Map<VerifyStepName, VerifyStep>();
  readonly #onStep: ((step: VerifyStep) => void) | undefined;

  constructor(onStep: ((step: VerifyStep) => void) | undefined) {
    this.#onStep = onStep;
  }

  add(step: VerifyStepName, outcome: Omit<VerifyStep, 'step' | 'ms'> & { readonly ms?: number }): void {
    const one = { step, ...outcome, ms: Math.round(outcome.ms ?? 0) };
    this.#found.set(step, one);
    try {
      this.#onStep?.(one);
    } catch {
      // Who is told does not decide what is found.
    }
  }

  fail(step: VerifyStepName, thrown: unknown, ms: number, details: Record<string, unknown> = {}): void {
    const error = toMailError(thrown).addDetails(details);
    this.add(step, { status: 'failed', ms, message: error.message, hint: error.hint, error: error.toJSON() });
  }

  /** Does a step that may fail; whether it did not. */
  async run(step: VerifyStepName, work: () => Promise<Omit<VerifyStep, 'step' | 'ms'>>): Promise<boolean> {
    const start = performance.now();
    try {
      const outcome = await work();
      this.add(step, { ms: performance.now() - start, ...outcome });
      return true;
    } catch (error) {
      this.fail(step, error, performance.now() - start);
      return false;
    }
  }

  report(): VerifyReport {
    for (const step of verifySteps) {
      if (!this.#found.has(step)) this.add(step, { status: 'skipped', message: 'not reached' });
    }
    const steps = verifySteps.flatMap((step) => this.#found.get(step) ?? []);
    return { ok: steps.every(({ status }) => status !== 'failed'), steps };
  }
}

/** How long each phase of an opening took, from the moments they began. */
export class PhaseTimes {
  readonly #times = new Map<Phase, number>();
  #phase: Phase | undefined;
  #since = 0;
  /** The phase that was entered last. */
  last: Phase | undefined;

  readonly enter = (phase: Phase): void => {
    this.stop();
    this.#phase = phase;
    this.last = phase;
    this.#since = performance.now();
  };

  stop(): void {
    if (this.#phase) this.#times.set(this.#phase, this.ms(this.#phase) + performance.now() - this.#since);
    this.#phase = undefined;
  }

  entered(phase: Phase): boolean {
    return this.#times.has(phase);
  }

  ms(phase: Phase): number {
    return this.#times.get(phase) ?? 0;
  }
}

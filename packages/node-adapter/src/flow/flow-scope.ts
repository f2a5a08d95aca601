import { setTimeout as delay } from 'node:timers/promises';
import {
  type BackgroundRunner,
  type Connection,
  type DuplicateStore,
  definedOnly,
  guardLogger,
  InProcessRunner,
  linkAbort,
  longestTimerMs,
  MailError,
  type MailSender,
  MemoryDuplicateStore,
  MemoryTokenStore,
  type Sandbox,
  silentLogger,
  systemClock,
  toMailError,
} from '@flowpost/core';
import { createSender, type SenderOptions } from '@flowpost/transport';
import { HeldSenders } from './held-senders.ts';

/** What all senders of a scope share, and how long it waits for them when it closes. */
export interface FlowScopeOptions extends Omit<SenderOptions, 'closeDeadlineMs'> {
  /** How long closing waits in all for what is in flight before it cuts it, in milliseconds. Default 30,000. */
  readonly closeDeadlineMs?: number | undefined;
  /** Where it is remembered what was sent. Default: in this process, whatever the scope. */
  readonly duplicateStore?: DuplicateStore | undefined;
  /** What runs asynchronous sends. Default: this process, which the scope waits for when it closes. */
  readonly background?: BackgroundRunner | undefined;
  /** Ends asynchronous sends and waits between attempts, as closing the scope does once their time is over. */
  readonly closing?: AbortSignal | undefined;
  /** Holds for every node that runs in the scope, whatever its settings say. */
  readonly sandbox?: Sandbox | undefined;
}

/** How long sessions and tokens live: they belong to a scope, and end with it. */
export interface FlowScope extends AsyncDisposable {
  readonly options: FlowScopeOptions;
  readonly duplicateStore: DuplicateStore;
  readonly background: {
    /**
     * Starts a task and returns at once.
     *
     * @param onLost told when the host's runner fails later, and has not begun.
     */
    run(task: () => Promise<void>, onLost?: (error: unknown) => void): void;
    /** Resolves when all asynchronous sends of this scope have ended. */
    drain(): Promise<void>;
  };
  /**
   * A sender for a connection, to be disposed when it is not used any more. Its sessions are those of all who ask for a connection
   * that is alike in everything, and stay open after it.
   *
   * @param variable the flow's variable that holds them: sessions of two variables are two.
   */
  sender(connection: Connection, variable?: string): MailSender;
  /** A sender with a session and a token of its own, which end when it is disposed. */
  unsharedSender(connection: Connection): MailSender;
  /**
   * Aborted when it closes: nothing waits for another attempt any more, and asynchronous sends, which had their time before, end.
   */
  readonly closing: AbortSignal;
  /** Closes the sessions that a variable of the flow holds, because it has left its scope. */
  closeVariable(name: string): Promise<void>;
}

/** Shared, so that a node without a scope of its own still knows what it sent before. */
const processDuplicates = new MemoryDuplicateStore();

/** How long closing waits for what is under way, in milliseconds. */
const defaultDeadlineMs = 30_000;

/**
 * A scope for the nodes of one run, or of a whole deployment where sessions should outlive runs. Closing it first waits for
 * asynchronous sends; what a process that dies has not sent by then is lost.
 *
 * @example await using scope = createFlowScope();
 */
export function createFlowScope(options: FlowScopeOptions = {}): FlowScope {
  const held = new HeldSenders(options.clock ?? systemClock);
  const runner = options.background ?? new InProcessRunner();
  // One store for all senders, so that steps with the same credential share its token.
  const auth = { tokenStore: new MemoryTokenStore(), ...definedOnly(options.auth) };
  /** Asynchronous sends of this scope, whoever runs them. */
  const pending = new Set<Promise<void>>();
  let closed = false;

  const deadlineMs = Math.min(Math.max(0, options.closeDeadlineMs ?? defaultDeadlineMs), longestTimerMs);
  /** When closing the scope has to be over. */
  let endsAt: number | undefined;
  const senderOptions = {
    ...options,
    closeDeadlineMs: () => (endsAt === undefined ? deadlineMs : Math.max(0, endsAt - performance.now())),
  };

  const assertOpen = (): void => {
    if (closed) throw new MailError('SENDER_CLOSED', 'The scope has been closed.');
  };
  const settlePending = async (): Promise<void> => {
    while (pending.size > 0) await Promise.allSettled(pending);
  };
  const ending = new AbortController();
  const unlink = linkAbort(options.closing, ending);

  return {
    options,
    duplicateStore: options.duplicateStore ?? processDuplicates,
    background: {
      run(task, onLost) {
        assertOpen();
        const ended = Promise.withResolvers<void>();
        pending.add(ended.promise);
        const settle = (): void => {
          pending.delete(ended.promise);
          ended.resolve();
        };
        let begun: Promise<void> | undefined;
        let isLost = false;
        const failed = (error: unknown): void =>
          guardLogger(options.logger ?? silentLogger).error('the background runner failed', {
            message: toMailError(error).message,
          });
        /** What was begun goes on. What was not is not begun any more: somebody is told that it was not sent. */
        const lose = (): boolean => {
          if (begun) return false;
          isLost = true;
          settle();
          return true;
        };
        try {
          const running: unknown = runner.run(() => {
            if (!isLost) begun ??= task().finally(settle);
            return begun ?? Promise.resolve();
          });
          // One that is asynchronous may fail later.
          Promise.resolve(running).catch((error) => {
            if (lose()) onLost?.(error);
            failed(error);
          });
        } catch (error) {
          if (lose()) throw error;
          failed(error);
        }
      },
      drain: settlePending,
    },
    sender(connection, variable) {
      assertOpen();
      return held.lend(connection, variable, () => createSender(connection, { ...senderOptions, auth }));
    },
    unsharedSender(connection) {
      assertOpen();
      const { tokenStore: _, ...rest } = { ...options.auth };
      return createSender(connection, { ...senderOptions, auth: rest });
    },
    closeVariable: (name) => held.close(({ variable }) => variable === name),
    closing: ending.signal,
    async [Symbol.asyncDispose]() {
      // As long as a sender would wait for what is under way. What waits for another attempt then fails as it did before.
      endsAt = performance.now() + deadlineMs;
      const late = new AbortController();
      const given = delay(deadlineMs, undefined, { signal: late.signal }).catch(() => undefined);
      await Promise.race([settlePending(), given]);
      late.abort();
      unlink();
      closed = true;
      ending.abort();
      await held.close(() => true);
    },
  };
}

import { isError, isMailError, MailError } from '@flowpost/core';

/** Something that runs SQL: a database, or a transaction in it. Values take the place of `$1`, `$2`. */
export interface Queryable {
  /**
   * @throws MailError `STORAGE_UNAVAILABLE`, whatever the database said. Nothing of it was done, unless the answer was lost: see
   * `mayHaveBeenDone`.
   */
  query<Row extends object = Record<string, unknown>>(
    text: string,
    values?: readonly unknown[],
  ): Promise<Row[]>;
}

/** PostgreSQL, embedded or as a server of its own; everything above knows no difference. */
export interface Database extends Queryable, AsyncDisposable {
  readonly kind: 'pglite' | 'postgres';
  /** What becomes of a committed transaction when the power fails. */
  readonly survivesPowerLoss: boolean;
  /** How much room there is where it keeps its files, in bytes. */
  freeBytes(): number;
  /**
   * Runs work in one transaction: all of it, or nothing.
   *
   * @param options.isLong whether a statement in it may take as long as it takes; in the embedded database, where one that does not end
   *   must not keep a server from starting for ever, ten minutes. Default false.
   */
  transaction<Value>(
    work: (transaction: Queryable) => Promise<Value>,
    options?: { readonly isLong?: boolean },
  ): Promise<Value>;
}

/** What the database said may hold values, so it is the cause and not the message. */
export function storageError(cause: unknown, details: { readonly reached?: false } = {}): MailError {
  if (isMailError(cause)) return cause;
  const reason = (cause as { code?: unknown }).code;
  // SQLSTATE of what is larger than a column can be, now and later.
  if (reason === '54000') {
    const hint = 'Attach less, or put it where the recipients can fetch it.';
    return new MailError('MESSAGE_TOO_LARGE', 'This is larger than the database can hold.', {
      hint,
      details: { reason, ...details },
      cause,
    });
  }
  return new MailError('STORAGE_UNAVAILABLE', 'The database cannot do this at the moment.', {
    retryable: true,
    details: { ...(typeof reason === 'string' && { reason }), ...details },
    cause,
  });
}

/** Whether it was not even asked: there is no database at the moment. */
export const isUnreached = (error: unknown): boolean => isMailError(error) && error.details.reached === false;

/** Why the database does not do something, for a log: what it said may hold values of users otherwise. */
export function storageReason(error: unknown): { readonly reason?: string; readonly said?: string } {
  const { reason } = isMailError(error) ? error.details : {};
  const { cause } = error as { readonly cause?: unknown };
  return {
    ...(typeof reason === 'string' && { reason }),
    ...(isError(cause) && { said: cause.message }),
  };
}

/**
 * SQLSTATE of a server that ends, of a connection that broke, and of a database that is broken itself. A statement that was cancelled
 * (57014) was undone, and where nobody could connect (57P03) there was none.
 */
const endings = /^(?:08|57P0[1245]|58|XX)/;

/**
 * Whether what failed may have been done all the same: the database did not say that it was not. What it said is an SQLSTATE, and a
 * statement with an error is undone.
 */
export function mayHaveBeenDone(error: unknown): boolean {
  const { code, details } = isMailError(error) ? error : storageError(error);
  const { reason } = details;
  if (code !== 'STORAGE_UNAVAILABLE' || reason === 'ENOSPC' || isUnreached(error)) return false;
  const isState = typeof reason === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(reason);
  return !isState || endings.test(reason);
}

/** The same, as pg-boss wants it: with the database's own errors. */
export const forPgBoss = (database: Queryable) => ({
  executeSql: async (text: string, values?: unknown[]) => {
    try {
      return { rows: await database.query(text, values) };
    } catch (error) {
      throw isMailError(error) && error.code === 'STORAGE_UNAVAILABLE' ? (error.cause ?? error) : error;
    }
  },
});

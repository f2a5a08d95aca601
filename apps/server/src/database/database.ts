/** Something that runs SQL: a database, or a transaction in it. Values take the place of `$1`, `$2`. */
export interface Queryable {
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
  /** Runs work in one transaction: all of it, or nothing. */
  transaction<Value>(work: (transaction: Queryable) => Promise<Value>): Promise<Value>;
}

/** The same, as pg-boss wants it. */
export const forPgBoss = (database: Queryable) => ({
  executeSql: async (text: string, values?: unknown[]) => ({ rows: await database.query(text, values) }),
});

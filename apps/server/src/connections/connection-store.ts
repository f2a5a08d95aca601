import { type CredentialExpiry, createAuthProvider, expiryNotice } from '@flowpost/auth-providers';
import {
  type Connection,
  type ConnectionInput,
  EncryptedText,
  isMailError,
  MailError,
  parseConnection,
  type SecretBox,
} from '@flowpost/core';
import { connectionTarget } from '@flowpost/transport';
import type { Queryable } from '../database/database.ts';
import { sealedElsewhere } from '../security/sealed-elsewhere.ts';
import type { HostAccess } from './host-access.ts';

/** A stored connection, as it may be shown: nothing secret is in it. */
export interface StoredConnection {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly host: string | null;
  /** What expires, and when, in ISO 8601. */
  readonly expires: readonly { readonly what: string; readonly at: string }[];
  /** What should be renewed soon. */
  readonly warnings: readonly string[];
  readonly createdAt: string;
  readonly updatedAt: string;
}

interface Row {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly host: string | null;
  readonly sealed: string;
  readonly expires: readonly CredentialExpiry[];
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** A connection that can be used. */
export interface OpenConnection {
  readonly id: string;
  readonly connection: Connection;
}

/** How long a connection that was found is not looked for again, in milliseconds; in this process a change counts at once. */
const recentMs = 1_000;

const isUuid = (text: string): boolean => /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);

/** What to tell people about something that expires within 30 days, or has. */
function expiryWarning(expiry: CredentialExpiry, now: number): string | undefined {
  const notice = expiryNotice(expiry, now);
  if (!notice) return undefined;
  if (notice.due === 0) return `The ${expiry.what} has expired.`;
  return `The ${expiry.what} expires in ${notice.daysLeft} days; renew it.`;
}

function toStored(row: Row, now: number): StoredConnection {
  const { id, name, kind, host, expires } = row;
  return {
    ...{ id, name, kind, host },
    expires: expires.map(({ what, expiresAt }) => ({ what, at: new Date(expiresAt).toISOString() })),
    warnings: expires.flatMap((one) => expiryWarning(one, now) ?? []),
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

function nameTaken(name: string): MailError {
  return new MailError(
    'CONNECTION_NAME_TAKEN',
    `There is a connection named ${JSON.stringify(name)} already.`,
    {
      details: { name },
    },
  );
}

/** What is no name may be a connection itself, with its password. */
const notFound = (ref: string): MailError =>
  /^[\w.-]{1,64}$/.test(ref)
    ? new MailError('CONNECTION_NOT_FOUND', `There is no connection ${JSON.stringify(ref)}.`, {
        details: { connection: ref },
      })
    : new MailError('CONNECTION_NOT_FOUND', 'There is no connection of that name.');

/** What a delivery over a connection that is gone is told. */
export const connectionDeleted = (): MailError =>
  new MailError('CONNECTION_NOT_FOUND', 'The connection of this delivery was deleted.');

/** Connections kept in the database, sealed as a whole; what was stored is never given back. */
export class ConnectionStore {
  readonly #database: Queryable;
  readonly #box: SecretBox;
  readonly #userBox: SecretBox;
  readonly #access: HostAccess;
  /** Opened ones by what is stored: a change is another text, so it counts at once, in every process. */
  readonly #opened = { stored: new Map<string, Connection>(), inline: new Map<string, Connection>() };

  /** How many changes this process has made. */
  #changes = 0;
  /** Found a moment ago. What is sent later looks again, so this matters for what is taken in only. */
  readonly #recent = new Map<string, { readonly row: Row; readonly until: number }>();

  /**
   * @param boxes.box seals what is stored.
   * @param boxes.userBox opens what users encrypted before they handed it over.
   */
  constructor(
    database: Queryable,
    { box, userBox }: { readonly box: SecretBox; readonly userBox: SecretBox },
    access: HostAccess,
  ) {
    this.#access = access;
    this.#database = database;
    this.#box = box;
    this.#userBox = userBox;
  }

  /** @throws MailError `CONNECTION_INVALID`, `SERVICE_UNKNOWN`, `CONNECTION_NAME_TAKEN`. */
  async create(name: string, input: ConnectionInput): Promise<StoredConnection> {
    const { kind, host, sealed, expires } = await this.#seal(input);
    const [row] = await this.#database.query<Row>(
      `insert into flowpost.connections (name, kind, host, sealed, expires) values ($1, $2, $3, $4, $5::jsonb)
       on conflict (name) do nothing returning *`,
      [name, kind, host, sealed, JSON.stringify(expires)],
    );
    if (!row) throw nameTaken(name);
    return toStored(row, Date.now());
  }

  /** @throws MailError as {@link create} does; `CONNECTION_NOT_FOUND`. */
  async update(
    ref: string,
    change: { readonly name?: string | undefined; readonly connection?: ConnectionInput | undefined },
  ): Promise<StoredConnection> {
    const found = await this.#find(ref);
    this.#forget();
    const next = change.connection === undefined ? undefined : await this.#seal(change.connection);
    // Only what is given is written, so that two who change different things do not undo each other.
    const rows = await this.#database
      .query<Row>(
        `update flowpost.connections set name = coalesce($2, name), kind = coalesce($3, kind),
           host = case when $5::text is null then host else $4 end, sealed = coalesce($5, sealed),
           expires = coalesce($6::jsonb, expires), updated_at = now()
         where id = $1 returning *`,
        [
          ...[found.id, change.name ?? null, next?.kind ?? null, next?.host ?? null, next?.sealed ?? null],
          next ? JSON.stringify(next.expires) : null,
        ],
      )
      .catch((error) => {
        // SQLSTATE of a name that is taken.
        if (isMailError(error) && error.details.reason === '23505') throw nameTaken(change.name ?? '');
        throw error;
      });
    if (!rows[0]) throw notFound(ref);
    this.#forget();
    return toStored(rows[0], Date.now());
  }

  async list(): Promise<StoredConnection[]> {
    const rows = await this.#database.query<Row>('select * from flowpost.connections order by name');
    return rows.map((row) => toStored(row, Date.now()));
  }

  /** @throws MailError `CONNECTION_NOT_FOUND`. */
  async get(ref: string): Promise<StoredConnection> {
    return toStored(await this.#find(ref), Date.now());
  }

  /** @throws MailError `CONNECTION_NOT_FOUND`. */
  async delete(ref: string): Promise<void> {
    const { id } = await this.#find(ref);
    await this.#database.query('delete from flowpost.connections where id = $1', [id]);
    this.#forget();
  }

  /**
   * Settings with the stored connection that they name, by name or id, as in `"connection": "@NAME"`; others as they are.
   *
   * @returns the id of the connection as well, unless it came with the settings.
   * @throws MailError as {@link open} does.
   */
  async inSettings(settings: Readonly<Record<string, unknown>>): Promise<{
    readonly settings: Readonly<Record<string, unknown>>;
    readonly connectionId?: string | undefined;
  }> {
    const { connection } = settings;
    if (typeof connection !== 'string' || !connection.startsWith('@')) return { settings };
    const { id, connection: opened } = await this.open(connection.slice(1));
    return { settings: { ...settings, connection: opened }, connectionId: id };
  }

  #forget(): void {
    this.#changes++;
    this.#recent.clear();
  }

  /** The connection of an id or a name, ready to be used. @throws MailError `CONNECTION_NOT_FOUND`. */
  async open(ref: string): Promise<OpenConnection> {
    const known = this.#recent.get(ref);
    const changes = this.#changes;
    const row = known && known.until > performance.now() ? known.row : await this.#find(ref);
    // What was changed while it was read may have been read before.
    if (row !== known?.row && changes === this.#changes)
      this.#recent.set(ref, { row, until: performance.now() + recentMs });
    return { id: row.id, connection: await this.unseal(row.sealed, { isStored: true }) };
  }

  /**
   * The stored connection of a delivery, as it is now.
   *
   * @throws MailError `CONNECTION_NOT_FOUND` when it was deleted.
   */
  async ofDelivery(id: string): Promise<Connection> {
    const [row] = await this.#database.query<{ sealed: string }>(
      'select c.sealed from flowpost.deliveries d join flowpost.connections c on c.id = d.connection_id where d.id = $1',
      [id],
    );
    if (!row) throw connectionDeleted();
    return this.unseal(row.sealed, { isStored: true });
  }

  /**
   * A sealed connection as it was. The same text gives the same object, so that senders are found again.
   *
   * @param options.isStored whether an administrator stored it, and it did not come with settings.
   */
  async unseal(
    sealed: string,
    { isStored = false }: { readonly isStored?: boolean } = {},
  ): Promise<Connection> {
    const opened = this.#opened[isStored ? 'stored' : 'inline'];
    const known = opened.get(sealed);
    if (known) return known;
    const clear = await this.#box.decrypt(new EncryptedText(sealed)).catch(sealedElsewhere);
    const connection = parseConnection(JSON.parse(clear));
    if (isStored) this.#access.trust(connection);
    if (opened.size > 1_000) opened.clear();
    opened.set(sealed, connection);
    return connection;
  }

  async #seal(input: ConnectionInput) {
    const connection = parseConnection(input);
    this.#access.assertFiles(connection);
    const { auth, kind } = connection;
    const { host } = connectionTarget(connection);
    const expiry =
      auth &&
      (await createAuthProvider(auth, { secretBox: this.#userBox })
        .expiry()
        .catch(() => undefined));
    const sealed = (await this.#box.encrypt(JSON.stringify(input))).compact;
    return { kind, host, sealed, expires: expiry ? [expiry] : [] };
  }

  async #find(ref: string): Promise<Row> {
    const column = isUuid(ref) ? 'id' : 'name';
    const [row] = await this.#database.query<Row>(`select * from flowpost.connections where ${column} = $1`, [
      ref,
    ]);
    if (!row) throw notFound(ref);
    return row;
  }
}

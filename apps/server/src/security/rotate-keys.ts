import { EncryptedText, isMailError, type SecretBox } from '@flowpost/core';
import type { Queryable } from '../database/database.ts';

/** Where sealed text is kept, and what shows a row to people. What says that all of it is sealed anew comes last. */
const asText = { sealed: 'sealed', text: 'sealed', written: '$2' } as const;
const places = [
  { table: 'connections', id: 'id', type: 'uuid', name: 'name', ...asText },
  { table: 'tokens', id: 'key', type: 'text', name: 'key', ...asText },
  { table: 'delivery_requests', id: 'id', type: 'uuid', name: 'id', ...asText },
  {
    ...{ table: 'deliveries', id: 'id', type: 'uuid', name: 'id', sealed: 'answer' },
    ...{ text: "answer #>> '{}'", written: 'to_jsonb($2::text)' },
  },
  {
    ...{ table: 'deliveries', id: 'id', type: 'uuid', name: 'id', sealed: 'body_hash' },
    ...{ text: "case when body_hash like '%.%' then body_hash end", written: '$2' },
  },
  { table: 'key_check', id: 'id', type: 'int', name: 'id', ...asText },
] as const;
type Place = (typeof places)[number];
const atOnce = 200;

interface Row {
  readonly id: string;
  readonly name: string;
  readonly sealed: string;
}

/** What a rotation came to. */
export interface Rotation {
  /** How many were sealed anew. */
  readonly sealed: number;
  /** What no key opens, as table and name. */
  readonly unreadable: readonly string[];
}

/** How text of a key begins: with its header, which is the same each time. */
async function prefixOf(box: SecretBox): Promise<string> {
  const { compact } = await box.encrypt('');
  return compact.slice(0, compact.indexOf('.') + 1);
}

/** Some of those that are left, behind one of them. */
const rest = ({ table, id, type, name, sealed, text }: Place): string =>
  `select ${id}::text as id, ${name}::text as name, ${text} as sealed from flowpost.${table}
   where ${sealed} is not null and not starts_with(${text}, $1) and ($2::text is null or ${id} > $2::text::${type})
   order by ${table}.${id} limit ${atOnce}`;

/**
 * Seals everything in the database with the first key that is not yet, some rows at a time, so that the other keys can be taken
 * away afterwards. Safe to be done by several processes, and again after one of them ended.
 *
 * @param only which tables. Default all.
 */
export async function rotateKeys(
  database: Queryable,
  box: SecretBox,
  signal: AbortSignal,
  only?: readonly string[],
): Promise<Rotation> {
  const prefix = await prefixOf(box);
  const unreadable = new Set<string>();
  let sealed = 0;
  for (const place of places) {
    if (only && !only.includes(place.table)) continue;
    // Once more after each time that found some: others may have put something in meanwhile.
    for (let before = -1; before !== sealed; ) {
      before = sealed;
      for (let last: string | null = null; ; ) {
        const rows: Row[] = await database.query<Row>(rest(place), [prefix, last]);
        if (rows.length === 0) break;
        for (const row of rows) {
          if (signal.aborted) return { sealed, unreadable: [...unreadable] };
          if (await sealAnew(database, box, place, row)) sealed++;
          else unreadable.add(`${place.table} ${row.name}`);
          last = row.id;
        }
      }
    }
  }
  return { sealed, unreadable: [...unreadable] };
}

/** @returns whether it could be opened. */
async function sealAnew(
  database: Queryable,
  box: SecretBox,
  { table, id, type, sealed, text, written }: Place,
  row: Row,
): Promise<boolean> {
  try {
    const { compact } = await box.rotate(new EncryptedText(row.sealed));
    // One that was changed meanwhile was sealed by whoever changed it.
    await database.query(
      `update flowpost.${table} set ${sealed} = ${written} where ${id} = $1::text::${type} and ${text} = $3`,
      [row.id, compact, row.sealed],
    );
    return true;
  } catch (error) {
    const isLost =
      isMailError(error) && ['SECRET_KEY_MISSING', 'ENCRYPTED_TEXT_INVALID'].includes(error.code);
    if (isLost) return false;
    throw error;
  }
}

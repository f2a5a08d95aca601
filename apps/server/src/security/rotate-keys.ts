import { EncryptedText, isMailError, type SecretBox } from '@flowpost/core';
import type { Queryable } from '../database/database.ts';

/** Where sealed text is kept, and what shows a row to people. What says that all of it is sealed anew comes last. */
const places = [
  { table: 'connections', id: 'id', name: 'name', sealed: 'sealed', text: 'sealed', written: '$2' },
  { table: 'tokens', id: 'key', name: 'key', sealed: 'sealed', text: 'sealed', written: '$2' },
  { table: 'delivery_requests', id: 'id', name: 'id', sealed: 'sealed', text: 'sealed', written: '$2' },
  {
    ...{ table: 'deliveries', id: 'id', name: 'id', sealed: 'answer' },
    ...{ text: "answer #>> '{}'", written: 'to_jsonb($2::text)' },
  },
  { table: 'key_check', id: 'id', name: 'id', sealed: 'sealed', text: 'sealed', written: '$2' },
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

const rest = ({ table, id, name, sealed, text }: Place): string =>
  `select ${id}::text as id, ${name}::text as name, ${text} as sealed from flowpost.${table}
   where ${sealed} is not null and not starts_with(${text}, $1) and ${id}::text <> all($2::text[]) limit ${atOnce}`;

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
  const unreadable: string[] = [];
  let sealed = 0;
  for (const place of places) {
    if (only && !only.includes(place.table)) continue;
    const passedOver: string[] = [];
    for (;;) {
      const rows = await database.query<Row>(rest(place), [prefix, passedOver]);
      if (rows.length === 0) break;
      for (const row of rows) {
        if (signal.aborted) return { sealed, unreadable };
        if (await sealAnew(database, box, place, row)) sealed++;
        else {
          passedOver.push(row.id);
          unreadable.push(`${place.table} ${row.name}`);
        }
      }
    }
  }
  return { sealed, unreadable };
}

/** @returns whether it could be opened. */
async function sealAnew(
  database: Queryable,
  box: SecretBox,
  { table, id, sealed, text, written }: Place,
  row: Row,
): Promise<boolean> {
  try {
    const { compact } = await box.rotate(new EncryptedText(row.sealed));
    // One that was changed meanwhile was sealed by whoever changed it.
    await database.query(
      `update flowpost.${table} set ${sealed} = ${written} where ${id}::text = $1 and ${text} = $3`,
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

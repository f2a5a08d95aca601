import { EncryptedText, type SecretBox } from '@flowpost/core';
import type { Queryable } from '../database/database.ts';

/** Where sealed text is kept. What says that all of it is sealed anew comes last. */
const places = [
  { table: 'connections', id: 'id', sealed: 'sealed', text: 'sealed', written: '$2' },
  { table: 'tokens', id: 'key', sealed: 'sealed', text: 'sealed', written: '$2' },
  { table: 'delivery_requests', id: 'id', sealed: 'sealed', text: 'sealed', written: '$2' },
  { table: 'deliveries', id: 'id', sealed: 'answer', text: "answer #>> '{}'", written: 'to_jsonb($2::text)' },
  { table: 'key_check', id: 'id', sealed: 'sealed', text: 'sealed', written: '$2' },
] as const;
const atOnce = 200;

/** How the text of the first key begins: with its header, which is the same each time. */
async function prefixOf(box: SecretBox): Promise<string> {
  const { compact } = await box.encrypt('');
  return compact.slice(0, compact.indexOf('.') + 1);
}

/**
 * Seals everything in the database with the first key that is not yet, some rows at a time, so that the other keys can be taken
 * away afterwards. Safe to be done by several processes, and again after one of them ended.
 *
 * @returns how many were sealed anew.
 */
export async function rotateKeys(database: Queryable, box: SecretBox, signal: AbortSignal): Promise<number> {
  const prefix = await prefixOf(box);
  let count = 0;
  for (const { table, id, sealed, text, written } of places) {
    for (;;) {
      const rows = await database.query<{ id: string; sealed: string }>(
        `select ${id} as id, ${text} as sealed from flowpost.${table}
         where ${sealed} is not null and not starts_with(${text}, $1) limit ${atOnce}`,
        [prefix],
      );
      if (rows.length === 0) break;
      for (const row of rows) {
        if (signal.aborted) return count;
        const { compact } = await box.rotate(new EncryptedText(row.sealed));
        // One that was changed meanwhile was sealed by whoever changed it.
        await database.query(
          `update flowpost.${table} set ${sealed} = ${written} where ${id} = $1 and ${text} = $3`,
          [row.id, compact, row.sealed],
        );
        count++;
      }
    }
  }
  return count;
}

import { readFileSync } from 'node:fs';

/** What the database, mail servers and files need beside clients. */
const kept = 400;
/** A process that may open so few files serves some clients all the same. */
const fewest = 100;

/** How many clients may be connected, so that there is room for what is done for them; undefined where the system does not say. */
export function mostConnections(limits = '/proc/self/limits'): number | undefined {
  try {
    const [, soft = ''] = /^Max open files\s+(\d+)/m.exec(readFileSync(limits, 'utf8')) ?? [];
    return soft === '' ? undefined : Math.max(fewest, Number(soft) - kept);
  } catch {
    return undefined;
  }
}

import { type ConnectionInput, MailError } from '@flowpost/core';
import { readJson } from './read-input.ts';
import { UsageError } from './usage.ts';

const connectionsFile = 'flowpost.connections.json';

/**
 * A connection as the command line names it: a URL, a JSON file, or `@NAME` for an entry of
 * `flowpost.connections.json` in the working directory. Without one, FLOWPOST_CONNECTION.
 *
 * @param otherwise what stands in for one that is not given; without it, that is an error.
 */
export async function readConnection(
  argument: string | undefined,
  otherwise?: string,
): Promise<ConnectionInput> {
  const name = argument ?? process.env.FLOWPOST_CONNECTION;
  if (name === undefined || name === '') {
    if (otherwise !== undefined) return otherwise;
    throw new UsageError('Which connection? Give --connection URL|FILE|@NAME, or set FLOWPOST_CONNECTION.');
  }
  if (name.startsWith('@')) return namedConnection(name.slice(1));
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(name)) return name;
  return (await readJson(name)) as ConnectionInput;
}

async function namedConnection(name: string): Promise<ConnectionInput> {
  const file = process.env.FLOWPOST_CONNECTIONS ?? connectionsFile;
  const connections = ((await readJson(file)) ?? {}) as Record<string, ConnectionInput>;
  const found = Object.hasOwn(connections, name) ? connections[name] : undefined;
  if (found !== undefined) return found;
  throw new MailError('CONNECTION_INVALID', `${file} holds no connection named ${JSON.stringify(name)}.`, {
    hint: `Use one of the names in ${file}, or add this one.`,
    details: { known: Object.keys(connections) },
  });
}

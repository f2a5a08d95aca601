import { existsSync, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { type ConnectionInput, isMailError, MailError, secretFields } from '@flowpost/core';
import { UsageError } from './command-line.ts';
import { say } from './output.ts';
import { readJson, readText, readYaml } from './read-input.ts';
import { runSecretCommands, type SecretUse } from './secret-command.ts';
import { xdgFolder } from './xdg-folder.ts';

/** Beside what somebody works on. Whoever put the folder there wrote it, so it may not start programs. */
const projectFile = 'flowpost.connections.json';

interface Configuration {
  readonly path: string;
  readonly connections: Readonly<Record<string, unknown>>;
  /** The name of the connection to use when none is given. */
  readonly default?: string | undefined;
  readonly mayRunCommands: boolean;
}

/** Not where there is none for sure: what one may not look at is said to be unreadable when it is read. */
function mayExist(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code !== 'ENOENT' && code !== 'ENOTDIR';
  }
}

/** Where the user's own configuration may be. */
function userFiles(): string[] {
  const folder = xdgFolder('XDG_CONFIG_HOME', '.config');
  if (folder === undefined) return [];
  return ['config.yaml', 'config.yml', 'config.json'].map((name) => join(folder, 'flowpost', name));
}

/** For hints: where the user's own configuration is, or would be. */
const userFileName = (): string =>
  userFiles().find(mayExist) ?? userFiles()[0] ?? 'a file that --config names';

const url = /^[a-z][a-z0-9+.-]*:\/\//i;

const isJson = (path: string): boolean => extname(path).toLowerCase() === '.json';

/** @throws MailError `CONNECTION_INVALID`. */
async function readDocument(path: string): Promise<unknown> {
  try {
    return isJson(path) ? await readJson(path) : await readYamlDocument(path);
  } catch (error) {
    // A file that cannot be read is one thing as an attachment, and another one where a connection is to be found.
    if (!isMailError(error) || error.code !== 'FILE_UNREADABLE') throw error;
    const { message, hint, details, cause } = error;
    throw new MailError('CONNECTION_INVALID', message, { hint, details, cause });
  }
}

async function readYamlDocument(path: string): Promise<unknown> {
  const read = await readYaml(await readText(path));
  if ('value' in read) return read.value;
  throw new MailError('FILE_UNREADABLE', `${path} is not valid YAML (line ${read.line ?? 'unknown'}).`, {
    hint: 'Put values with special characters into quotes.',
    details: { path },
  });
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Connections by their names, under `connections` or, in JSON, nothing but them.
 *
 * @throws MailError `CONNECTION_INVALID`.
 */
async function readConfiguration(path: string, mayRunCommands = true): Promise<Configuration> {
  const document = await readDocument(path);
  const { default: usual, ...others } = isRecord(document) ? document : {};
  const isFlat = isJson(path) && isRecord(document) && !('connections' in document);
  // Where there is nothing but connections, one of them may be called so.
  const isConnection = isFlat && (typeof usual !== 'string' || url.test(usual));
  const connections = !isFlat ? others.connections : isConnection ? document : others;
  const name = isConnection ? undefined : usual;
  if (!isRecord(connections) || !(name === undefined || typeof name === 'string')) {
    throw new MailError('CONNECTION_INVALID', `${path} must hold connections by their names.`, {
      hint: isJson(path)
        ? 'Write {"work": "smtps://me:PASSWORD@smtp.example.com"}, a connection by its name.'
        : 'Write connections: and below it a line such as work: smtps://me:PASSWORD@smtp.example.com; default: work is optional.',
      details: { path },
    });
  }
  return { path, connections, default: name?.replace(/^@/, ''), mayRunCommands };
}

/** All there is, in the order names are looked up in. */
async function configurations(config: string | undefined): Promise<Configuration[]> {
  const named = config ?? process.env.FLOWPOST_CONFIG;
  if (named) return [await readConfiguration(named)];
  const user = userFiles().find(mayExist);
  return [
    ...(existsSync(projectFile) ? [await readConfiguration(projectFile, false)] : []),
    ...(user === undefined ? [] : [await readConfiguration(user)]),
  ];
}

/** Whether a secret stands there as it is, in a field of its own or in a URL. */
function hasClearSecret(value: unknown): boolean {
  if (typeof value === 'string') {
    const { password = '' } = URL.parse(value) ?? {};
    return password !== '' && !password.startsWith('eyJ');
  }
  if (Array.isArray(value)) return value.some(hasClearSecret);
  if (!isRecord(value)) return false;
  return Object.entries(value).some(([key, one]) =>
    secretFields.has(key) && typeof one === 'string' ? !one.startsWith('eyJ') : hasClearSecret(one),
  );
}

/** Others who can read a file that holds a password. */
async function warnIfOpen({ path, mayRunCommands }: Configuration, connection: unknown): Promise<void> {
  if (process.platform === 'win32' || !hasClearSecret(connection)) return;
  const { mode } = await stat(path);
  if ((mode & 0o077) === 0) return;
  const instead = mayRunCommands
    ? 'use passwordCommand'
    : `move the connection into your own configuration (${userFileName()})`;
  say(`Warning: ${path} holds a password in clear and others can read it. chmod 600 it, or ${instead}.`);
}

function unknown(name: string, all: readonly Configuration[]): MailError {
  const where = all.length === 0 ? 'There is no configuration' : all.map(({ path }) => path).join(' and ');
  // What looks like a login is none of anybody's business.
  const isLogin = (text: string): boolean => /[:@]/.test(text);
  const shown = isLogin(name) ? 'of that name' : `named ${JSON.stringify(name)}`;
  const known = all.flatMap(({ connections }) => Object.keys(connections)).filter((one) => !isLogin(one));
  return new MailError(
    'CONNECTION_INVALID',
    all.length === 0 ? `${where}, so no connection ${shown}.` : `${where} holds no connection ${shown}.`,
    {
      hint: `Use ${known.length > 0 ? `one of ${known.map((one) => `@${one}`).join(', ')}` : 'a URL'}, or add this one to ${all.at(-1)?.path ?? userFileName()}.`,
      details: { known },
    },
  );
}

async function namedConnection(
  name: string,
  all: readonly Configuration[],
  use: SecretUse,
): Promise<ConnectionInput> {
  for (const one of all) {
    if (!Object.hasOwn(one.connections, name)) continue;
    const found = one.connections[name];
    await warnIfOpen(one, found);
    return (await runSecretCommands(found, one, use)) as ConnectionInput;
  }
  throw unknown(name, all);
}

/** What was meant is a name without @, or an address without a scheme. It is not repeated: a password may be in it. */
async function neitherUrlNorFile(name: string, config: string | undefined): Promise<MailError> {
  const all = await configurations(config).catch(() => []);
  const isKnown = all.some(({ connections }) => Object.hasOwn(connections, name));
  return new MailError('CONNECTION_INVALID', 'What names the connection is neither a URL nor a file.', {
    hint: isKnown
      ? `Write @${name} for the connection of that name.`
      : 'Write smtp://HOST:PORT or smtps://USER:PASSWORD@HOST for a server, @NAME for a connection of the configuration, or the path of a file.',
  });
}

/** A preview needs no server, only what a connection may say about the message. */
const nowhere = 'smtp://localhost';

/**
 * A connection as the command line names it: a URL, a JSON or YAML file, or `@NAME`. Without one, FLOWPOST_CONNECTION, and without
 * that the default of the configuration.
 *
 * @param options.previewOnly nothing is sent: there need be no connection, and nobody is asked for secrets.
 * @throws UsageError, or MailError of category `configuration`.
 */
export async function readConnection(
  { connection, config }: { readonly connection?: string | undefined; readonly config?: string | undefined },
  { previewOnly = false }: { readonly previewOnly?: boolean } = {},
): Promise<ConnectionInput> {
  const use: SecretUse = previewOnly ? 'left out' : 'run';
  // A variable of a script that is not set, mostly. The usual connection is another one than was meant.
  if (connection === '') throw new UsageError('--connection is empty. Give URL|FILE|@NAME, or leave it out.');
  const name = connection ?? process.env.FLOWPOST_CONNECTION;
  if (name?.startsWith('@')) return namedConnection(name.slice(1), await configurations(config), use);
  if (name && url.test(name)) return name;
  if (name) {
    const looksLikePath = /[/\\]|\.(?:json|ya?ml)$/i.test(name);
    if (!looksLikePath && !existsSync(name)) throw await neitherUrlNorFile(name, config);
    const from = { path: name, mayRunCommands: true };
    return (await runSecretCommands(await readDocument(name), from, use)) as ConnectionInput;
  }
  const all = await configurations(config);
  const usual = all.find((one) => one.default !== undefined)?.default;
  if (usual !== undefined) return namedConnection(usual, all, use);
  if (previewOnly) return nowhere;
  throw new UsageError('Which connection? Give --connection URL|FILE|@NAME, or set FLOWPOST_CONNECTION.');
}

import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { MailError, secretFields } from '@flowpost/core';
import { textOf } from './read-input.ts';

const commandOf = new Map([...secretFields].map((name) => [`${name}Command`, name]));
/** Nobody should be asked for a password that nothing is done with. */
export type SecretUse = 'run' | 'left out';
/** Somebody may have to type a password for the password. */
const longestMs = 300_000;
/** No secret is longer, in bytes. */
const longestOutput = 1_000_000;
/** What ends this process, and the command with it. */
const endings = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** How long output may take after the end of what wrote it, in milliseconds. */
const graceMs = 500;

/** Whether a person may be asked, whatever standard input is. */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}

/**
 * The first line a command prints, as msmtp's passwordeval has it; all of it where that is a key. A text is for the shell, a list
 * is a program and its arguments.
 */
async function printedSecret(name: string, command: unknown): Promise<string> {
  const [program = '', ...args] = typeof command === 'string' ? ['sh', '-c', command] : (command as string[]);
  const invalid = (why: string): MailError =>
    new MailError('CONNECTION_INVALID', `${name} ${why}.`, {
      hint: 'Run it in a terminal: it has to print the secret (on its first line, unless it is a key) and end with 0.',
    });
  const { spawn } = await import('node:child_process');
  // At a terminal somebody may be asked; anything else on standard input is for the message.
  const atTerminal = process.stdin.isTTY === true;
  // A group of its own can be ended with all it has started. It loses the terminal then, where it may ask somebody.
  const detached = !hasTerminal();
  const child = spawn(program, args, {
    stdio: [atTerminal ? 'inherit' : 'ignore', 'pipe', 'ignore'],
    detached,
  });
  let endedFor: string | undefined;
  const end = (why: string): void => {
    endedFor ??= why;
    try {
      process.kill(detached ? -Number(child.pid) : Number(child.pid));
    } catch {
      // It has ended by itself.
    }
  };
  /** Nobody waits for it any more. */
  const onSignal = (signal: NodeJS.Signals): void => {
    end('was not waited for');
    for (const one of endings) process.off(one, onSignal);
    process.kill(process.pid, signal);
  };
  for (const one of endings) process.once(one, onSignal);
  const late = setTimeout(() => end('did not end in time'), longestMs);
  const printed: Buffer[] = [];
  let size = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    printed.push(chunk);
    size += chunk.length;
    if (size > longestOutput) end('printed more than any secret has');
  });
  const code = await new Promise<number | string | null>((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'ERROR'));
    child.once('exit', resolve);
  });
  clearTimeout(late);
  for (const one of endings) process.off(one, onSignal);
  // A helper it left running may hold its output open for ever; what it printed itself is here in a moment.
  await Promise.race([once(child.stdout, 'close').catch(() => undefined), delay(code === 0 ? graceMs : 0)]);
  child.stdout.destroy();
  // What it wrote is not repeated: it may be what it was to keep.
  if (endedFor !== undefined || code !== 0) throw invalid(endedFor ?? `failed (${code ?? child.signalCode})`);
  const all = Buffer.concat(printed);
  // What stands below a password, such as notes about it, is nobody's business here, whatever it is written in.
  const lineEnd = name === 'privateKeyCommand' ? -1 : all.indexOf('\n');
  const text = textOf(lineEnd < 0 ? all : all.subarray(0, lineEnd), () =>
    invalid('printed what is not UTF-8'),
  );
  const secret = name === 'privateKeyCommand' ? text.trim() : text.replace(/\r$/, '');
  if (secret === '') throw invalid('printed nothing');
  return secret;
}

/**
 * A connection with `passwordCommand` and its like replaced by what the commands print.
 *
 * @throws MailError `CONNECTION_INVALID`.
 */
export async function runSecretCommands(
  connection: unknown,
  from: { readonly path: string; readonly mayRunCommands: boolean },
  use: SecretUse,
): Promise<unknown> {
  if (Array.isArray(connection))
    return Promise.all(connection.map((one) => runSecretCommands(one, from, use)));
  if (typeof connection !== 'object' || connection === null) return connection;
  const entries = await Promise.all(
    Object.entries(connection).map(async ([key, value]) => {
      const secret = commandOf.get(key);
      if (secret === undefined) return [key, await runSecretCommands(value, from, use)];
      if (!from.mayRunCommands) {
        throw new MailError(
          'CONNECTION_INVALID',
          `${from.path} may not run commands, because it comes with a folder.`,
          {
            hint: `Move the connection from there into the configuration of your own (config.yaml in ~/.config/flowpost, or in XDG_CONFIG_HOME), or name the file with --config or FLOWPOST_CONFIG.`,
          },
        );
      }
      const isList =
        Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string');
      if (typeof value !== 'string' && !isList)
        throw new MailError('CONNECTION_INVALID', `${key} must be a command: a text, or a list of texts.`);
      // What is signed is signed with it, in a preview too.
      const isWanted = use === 'run' || secret === 'privateKey';
      return [secret, isWanted ? await printedSecret(key, value) : 'left out'];
    }),
  );
  return Object.fromEntries(entries);
}

import { readFileSync } from 'node:fs';
import type { MailErrorJson } from '@flowpost/core';
import { type Command, type CommandSpec, helpOf, parseCommandLine, UsageError } from './command-line.ts';
import { exitCodeOf, exitCodes } from './exit-codes.ts';
import { beQuiet, printJson, say, sayError } from './output.ts';
import { redact } from './redact.ts';
import { specs } from './specs.ts';
import { usage } from './usage.ts';

type Name = keyof typeof specs;
type Loaders = { readonly [One in Name]: () => Promise<Command<(typeof specs)[One]>> };

/** Loaded when asked for: `--version` should not wait for a mail server's code. */
const commands: Loaders = {
  send: async () => {
    await import('./without-compiling.ts');
    return (await import('./commands/send.ts')).send;
  },
  run: async () => (await import('./commands/run.ts')).run,
  batch: async () => (await import('./commands/batch.ts')).batch,
  preview: async () => (await import('./commands/preview.ts')).preview,
  verify: async () => (await import('./commands/verify.ts')).verify,
  services: async () => (await import('./commands/services.ts')).services,
  catch: async () => (await import('./commands/catch.ts')).catchMail,
  secret: async () => (await import('./commands/secret.ts')).secret,
  completion: async () => (await import('./commands/completion.ts')).completion,
};

const isName = (name: string): name is Name => Object.hasOwn(specs, name);
const print = (text: string): number => {
  process.stdout.write(text);
  return exitCodes.sent;
};

function version(): string {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
}

async function run(name: Name, argv: readonly string[]): Promise<number> {
  const spec: CommandSpec = specs[name];
  // Whatever else is there; but where an option has a value, that is one.
  if (argv[0] === '--help') return print(helpOf(name, spec));
  const { values, operands } = parseCommandLine(spec, argv);
  if (values.help) return print(helpOf(name, spec));
  if (values.quiet) beQuiet();
  const command = (await commands[name]()) as Command<CommandSpec>;
  const code = await command(values, operands);
  if (printsProduct.has(name)) await assertPrinted();
  return code;
}

/** Commands that do nothing but print; what the others print is news of what they did, which their exit code says too. */
const printsProduct: ReadonlySet<Name> = new Set<Name>(['secret', 'services', 'completion', 'preview']);

/** Why standard output could not be written. */
let unprinted: NodeJS.ErrnoException | undefined;

/** @throws what the disk said, unless it is only that nobody listens any more. */
async function assertPrinted(): Promise<void> {
  await new Promise((resolve) => {
    process.stdout.write('', resolve);
  });
  if (unprinted && unprinted.code !== 'EPIPE') throw unprinted;
}

/** What an operating system says when a file named on the command line is not what it should be. */
async function fileError(thrown: unknown): Promise<unknown> {
  const { code, syscall, path } = thrown as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT' || code === 'EIO';
  if (syscall === undefined || code === undefined || (path === undefined && !isFull)) return thrown;
  const { MailError } = await import('@flowpost/core');
  const details = { ...(path !== undefined && { path }), reason: code };
  if (isFull) {
    const hint = 'Make room on the disk, or use another one.';
    const message = `${path ?? 'A file'} cannot be written (${code}).`;
    return new MailError('STORAGE_UNAVAILABLE', message, { retryable: true, hint, details });
  }
  const hint = 'Check that its folder exists, that it is a file where a file is meant, and who may use it.';
  return new MailError('FILE_UNREADABLE', `${path} cannot be used (${code}).`, { hint, details });
}

async function fail(thrown: unknown, argv: readonly string[]): Promise<number> {
  const json = argv.some((argument) => /^--json(?:=|$)/.test(argument));
  const clean = (text: string): string => redact(text, argv, process.env);
  if (thrown instanceof UsageError) {
    const message = clean(thrown.message);
    const hint = 'See flowpost --help.';
    const fixed = { code: 'USAGE', category: 'usage', phase: 'validate', retryable: false, inDoubt: false };
    if (json) printJson({ error: { ...fixed, hint, message } });
    else say(`${message}\n  ${hint}`, 'error');
    return exitCodes.usage;
  }
  const { toMailError } = await import('@flowpost/core');
  const error = JSON.parse(clean(JSON.stringify(toMailError(await fileError(thrown))))) as MailErrorJson;
  if (json) printJson({ error });
  else sayError(error);
  return exitCodeOf(error);
}

async function main([name = '--help', ...rest]: readonly string[]): Promise<number> {
  if (name === '--version') return print(`${version()}\n`);
  const [about = ''] = rest;
  if (name === 'help' && isName(about)) return print(helpOf(about, specs[about]));
  if (name === '--help' || name === 'help') return print(usage());
  try {
    if (!isName(name)) throw new UsageError(`There is no command ${JSON.stringify(name)}.`);
    return await run(name, rest);
  } catch (thrown) {
    return fail(thrown, [name, ...rest]);
  }
}

// Nobody may be listening any more, or the disk may be full. The exit code still says what became of the message.
process.stderr.on('error', () => undefined);
process.stdout.on('error', (error) => {
  unprinted ??= error;
});
// Should nothing be left to wait for before the outcome is known, that is not success.
process.exitCode = exitCodes.internal;
void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});

#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { toMailError } from '@flowpost/core';
import { exitCodes } from './exit-codes.ts';
import { printJson, say, sayError } from './output.ts';
import { UsageError, usage } from './usage.ts';

type Command = (argv: readonly string[]) => Promise<number>;

/** Loaded when asked for: `--version` should not wait for a mail server's code. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  send: async () => (await import('./commands/send.ts')).send,
  run: async () => (await import('./commands/run.ts')).run,
  verify: async () => (await import('./commands/verify.ts')).verify,
  services: async () => (await import('./commands/services.ts')).services,
  preview: async () => (await import('./commands/preview.ts')).preview,
  catch: async () => (await import('./commands/catch.ts')).catchMail,
  secret: async () => (await import('./commands/secret.ts')).secret,
};

function version(): string {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
}

function isUsageError(error: unknown): error is Error {
  const code = (error as { code?: unknown } | undefined)?.code;
  return error instanceof UsageError || (typeof code === 'string' && code.startsWith('ERR_PARSE_ARGS'));
}

async function main(argv: readonly string[]): Promise<number> {
  const [name = '--help', ...rest] = argv;
  if (name === '--version') {
    process.stdout.write(`${version()}\n`);
    return exitCodes.sent;
  }
  if (name === '--help' || rest.includes('--help')) {
    process.stdout.write(usage);
    return exitCodes.sent;
  }
  try {
    const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (!load) throw new UsageError(`There is no command ${JSON.stringify(name)}. See flowpost --help.`);
    const command = await load();
    return await command(rest);
  } catch (thrown) {
    const json = rest.some((argument) => /^--json(?:=|$)/.test(argument));
    if (isUsageError(thrown)) {
      const { message } = thrown;
      const hint = 'See flowpost --help.';
      if (json) {
        const usageError = {
          code: 'USAGE',
          category: 'usage',
          phase: 'validate',
          retryable: false,
          inDoubt: false,
        };
        printJson({ error: { ...usageError, hint, message } });
      } else say(`${message}\n  ${hint}`);
      return exitCodes.usage;
    }
    const error = toMailError(thrown).toJSON();
    if (json) printJson({ error });
    else sayError(error);
    return exitCodes[error.category];
  }
}

// Nobody may be listening any more, or the disk may be full. The exit code still says what became of the message.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
process.exitCode = await main(process.argv.slice(2));

#!/usr/bin/env node
import { isMailError } from '@flowpost/core';
import { readConfig } from './config.ts';
import { storageReason } from './database/database.ts';
import { startServer } from './server.ts';

// What nobody reads, or no disk has room for, is no reason to end.
for (const out of [process.stdout, process.stderr]) out.on('error', () => undefined);
const print = (line: string): boolean => process.stdout.write(`${line}\n`);

try {
  const server = await startServer(readConfig(process.env));
  let stopping = false;
  const stop = (): void => {
    // Who asks twice does not want to wait.
    if (stopping) process.exit(130);
    stopping = true;
    server[Symbol.asyncDispose]().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', stop);
  if (server.firstKey !== undefined) print(`The first API key, shown this once: ${server.firstKey}`);
  print(`Flowpost is listening at ${server.url}`);
} catch (error) {
  const message = (error as Partial<Error>).message ?? 'its data folder cannot be written to';
  const { said, reason } = storageReason(error);
  const why = said === undefined ? '' : `\n  ${said}${reason === undefined ? '' : ` (${reason})`}`;
  process.stderr.write(
    `${isMailError(error) ? `${message}${why}\n  ${error.hint}` : `The server cannot start: ${message}`}\n`,
  );
  process.exit(78);
}

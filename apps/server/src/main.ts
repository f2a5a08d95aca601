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
  const stop = (): void => {
    server[Symbol.asyncDispose]().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  let asked = 0;
  const onAsked = (): void => {
    asked++;
    // Who asks twice does not want to wait.
    if (asked > 1) process.exit(130);
    stop();
  };
  process.on('SIGTERM', onAsked);
  process.on('SIGINT', onAsked);
  // One terminal that goes away may say so several times, and say nothing of how long one may wait.
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
  // sysexits: what may be there in a moment, and what has to be corrected.
  process.exit(isMailError(error) && error.code === 'STORAGE_UNAVAILABLE' ? 69 : 78);
}

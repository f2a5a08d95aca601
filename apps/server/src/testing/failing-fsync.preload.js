// Loaded into a server before anything else: now and then its disk does not take what it was given.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { openSync, closeSync, fsyncSync } = fs;
/** The disk fails from when the first is there, once in so many times. */
const { FAILING_FSYNC_FROM: sign, FAILING_FSYNC_ONE_IN: oneIn } = process.env;
let fails = false;
/** What a commit waits for. A start flushes some thousand files besides, and most of the starts have to come to their ends. */
const rarerAtStart = 100;
const writtenAhead = new Set();
fs.openSync = (path, ...rest) => {
  const descriptor = openSync(path, ...rest);
  if (String(path).includes('pg_wal')) writtenAhead.add(descriptor);
  return descriptor;
};
fs.closeSync = (descriptor) => {
  writtenAhead.delete(descriptor);
  closeSync(descriptor);
};
fs.fsyncSync = (descriptor) => {
  fails ||= fs.existsSync(sign);
  const often = writtenAhead.has(descriptor) ? Number(oneIn) : Number(oneIn) * rarerAtStart;
  const chance = fails ? Math.random() * often : 1;
  const failure = Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO', syscall: 'fsync' });
  if (chance < 0.5) throw failure;
  fsyncSync(descriptor);
  // On the disk, and nobody hears of it.
  if (chance < 1) throw failure;
};
syncBuiltinESMExports();

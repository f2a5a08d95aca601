// Loaded into a server before anything else: now and then its disk does not take what it was given.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { fsyncSync } = fs;
/** A database flushes its files several thousand times when it starts after a crash, and has to start at all. */
const startsUntil = Date.now() + 2_000;
fs.fsyncSync = (descriptor) => {
  const chance = Date.now() < startsUntil ? 1 : Math.random() * Number(process.env.FAILING_FSYNC_ONE_IN);
  const failure = Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO', syscall: 'fsync' });
  if (chance < 0.5) throw failure;
  fsyncSync(descriptor);
  // On the disk, and nobody hears of it.
  if (chance < 1) throw failure;
};
syncBuiltinESMExports();

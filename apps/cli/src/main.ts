#!/usr/bin/env node
import { existsSync } from 'node:fs';
import module from 'node:module';
import { dirname, join } from 'node:path';
import { xdgFolder } from './xdg-folder.ts';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 12)) {
  process.stderr.write(
    `flowpost needs Node.js 22.12 or newer, and this is ${process.versions.node}.\n` +
      '  Install a newer one from https://nodejs.org, or with your version manager.\n',
  );
  process.exitCode = 78;
} else {
  // What was compiled once need not be again: it is most of the time a command takes to start. In a folder nobody else can
  // write to, because it is code.
  const cache = xdgFolder('XDG_CACHE_HOME', '.cache');
  // Where there is no home, none is made; below /proc, Node would try for ever.
  const isThere = cache !== undefined && (existsSync(cache) || existsSync(dirname(cache)));
  if (isThere) module.enableCompileCache(join(cache, 'flowpost', 'compiled'));
  void import('./flowpost.ts');
}

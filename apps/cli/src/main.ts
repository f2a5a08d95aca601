#!/usr/bin/env node
import { mkdirSync } from 'node:fs';
import module from 'node:module';
import { join } from 'node:path';
import { xdgFolder } from './xdg-folder.ts';

function isFolder(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EEXIST';
  }
}

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
  const folders =
    cache === undefined ? [] : [cache, join(cache, 'flowpost'), join(cache, 'flowpost', 'compiled')];
  // One after another: where there is no home none is made, and where nothing can be made Node would try for ever.
  if (folders.every(isFolder)) module.enableCompileCache(folders.at(-1));
  void import('./flowpost.ts');
}

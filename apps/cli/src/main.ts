#!/usr/bin/env node
import { enableCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

// What was compiled once need not be again: it is most of the time a command takes to start. In a folder nobody else can write to,
// because it is code.
const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
enableCompileCache(process.env.NODE_COMPILE_CACHE ?? join(cache, 'flowpost', 'compiled'));
await import('./flowpost.ts');

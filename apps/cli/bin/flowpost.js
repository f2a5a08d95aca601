#!/usr/bin/env node
// In this workspace the command runs from its sources, without a build. The published package runs dist/main.cjs.
import { registerHooks } from 'node:module';

registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier, { ...context, conditions: [...context.conditions, '@flowpost/source'] }),
});
await import('../src/main.ts');

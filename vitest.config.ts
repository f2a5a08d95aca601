import { createRequire } from 'node:module';
import { defineConfig } from 'vitest/config';

// Tests run on the sources: the condition below is the first entry of every package's exports.
const conditions = ['@flowpost/source', 'node'];
const n8nWorkflow = createRequire(new URL('packages/n8n/package.json', import.meta.url)).resolve(
  'n8n-workflow',
);

export default defineConfig({
  // As n8n loads it; what its other form is made of Node cannot load.
  resolve: { conditions, alias: { 'n8n-workflow': n8nWorkflow } },
  ssr: { resolve: { conditions } },
  test: {
    include: ['packages/*/src/**/*.test.ts', 'apps/*/src/**/*.test.ts', 'tools/**/*.test.ts'],
    setupFiles: ['tools/vitest-setup.ts'],
    testTimeout: process.env.FLOWPOST_SOAK ? 600_000 : 60_000,
    hookTimeout: 60_000,
    // Real sockets on a machine with much else to do: what is broken is so twice. The long forms are to find what is rare.
    retry: process.env.FLOWPOST_SOAK ? 0 : 1,
    // A second, which is the default, is short on a machine with much else to do.
    expect: { poll: { timeout: 15_000 } },
    // Most of them wait for a socket most of the time, so even two cores have room for three.
    maxWorkers: 3,
    // How long a test takes is no news; what fails is.
    slowTestThreshold: 60_000,
  },
});

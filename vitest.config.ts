import { defineConfig } from 'vitest/config';

// Tests run on the sources: the condition below is the first entry of every package's exports.
const conditions = ['@flowpost/source', 'node'];

export default defineConfig({
  resolve: { conditions },
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

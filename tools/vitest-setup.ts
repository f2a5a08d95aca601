import { fileURLToPath } from 'node:url';
import fc from 'fast-check';

// The same cases each time, so that a failure is the change's doing; many more and new ones with npm run soak.
fc.configureGlobal(process.env.FLOWPOST_SOAK ? { numRuns: 20_000 } : { numRuns: 500, seed: 20_261_121 });

// The programs that tests start are compiled once, not each time: that is most of what starting them takes.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL('../node_modules/.cache/compiled', import.meta.url));

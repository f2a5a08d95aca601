import fc from 'fast-check';

// The same properties, many more cases: npm run soak.
fc.configureGlobal({ numRuns: process.env.FLOWPOST_SOAK ? 20_000 : 500 });

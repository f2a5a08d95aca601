// One file a command, so that a command loads what it needs and nothing else, from few files. They are CommonJS, which Node
// loads faster: what a command takes to start is most of what it takes to send one message.
import { build } from 'rolldown';
import { thirdPartyLicences } from '../../tools/third-party.js';

await build({
  input: 'src/main.ts',
  platform: 'node',
  // Only `catch` needs it, and it brings much.
  external: ['@flowpost/testing'],
  // The oldest that `engines` names.
  transform: { target: 'node22.12' },
  resolve: { conditionNames: ['@flowpost/source', 'node', 'import', 'default'] },
  plugins: [
    thirdPartyLicences,
    {
      name: 'one language',
      // Messages are ours; those of zod in forty languages would be half of what is loaded.
      load: {
        filter: { id: /zod\/v4\/locales\/index\.js$/ },
        handler: () => "export { default as en } from './en.js';",
      },
    },
  ],
  output: {
    dir: 'dist',
    format: 'cjs',
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name]-[hash].cjs',
    // Apart, because it has to be set up before schemas are made with it.
    codeSplitting: { groups: [{ name: 'zod', test: /node_modules\/zod\// }] },
    cleanDir: true,
    minify: true,
    comments: { legal: true },
  },
});

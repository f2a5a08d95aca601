// One file a command, so that a command loads what it needs and nothing else, from few files.
import { build } from 'rolldown';

await build({
  input: 'src/main.ts',
  platform: 'node',
  // Only `catch` needs it, and it brings much.
  external: ['@flowpost/testing'],
  resolve: { conditionNames: ['@flowpost/source', 'node', 'import', 'default'] },
  plugins: [
    {
      name: 'one language',
      // Messages are ours; those of zod in forty languages would be half of what is loaded.
      load: {
        filter: { id: /zod\/v4\/locales\/index\.js$/ },
        handler: () => "export { default as en } from './en.js';",
      },
    },
  ],
  output: { dir: 'dist', cleanDir: true, minify: true, comments: { legal: true } },
});

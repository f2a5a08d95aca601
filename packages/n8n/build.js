// n8n finds the classes by the names of their files, and loads them with require(). What they need is bundled: n8n installs a
// package beside others, whose dependencies it must not disturb.
import { copyFile, writeFile } from 'node:fs/promises';
import { build } from 'rolldown';
import { thirdPartyLicences } from '../../tools/third-party.js';

const node = 'nodes/FlowpostSendEmail';

await build({
  input: {
    [`${node}/FlowpostSendEmail.node`]: 'src/send-node.ts',
    'credentials/FlowpostMailServer.credentials': 'src/mail-server.ts',
  },
  platform: 'node',
  // n8n's own, of which there must be no second one.
  external: ['n8n-workflow'],
  // The oldest that `engines` names.
  transform: { target: 'node22.12' },
  resolve: { conditionNames: ['@flowpost/source', 'node', 'import', 'default'] },
  plugins: [thirdPartyLicences],
  output: {
    dir: 'dist',
    format: 'cjs',
    entryFileNames: '[name].js',
    chunkFileNames: 'shared/[name]-[hash].js',
    cleanDir: true,
    minify: true,
    comments: { legal: true },
  },
});

await writeFile('dist/package.json', `${JSON.stringify({ type: 'commonjs' })}\n`);
for (const folder of [node, 'credentials']) await copyFile('flowpost.svg', `dist/${folder}/flowpost.svg`);
const codex = {
  node: '@flowpost/n8n-nodes-flowpost.flowpostSendEmail',
  nodeVersion: '1.0',
  codexVersion: '1.0',
  categories: ['Communication'],
  alias: ['mail', 'smtp', 'Microsoft 365', 'Gmail'],
};
await writeFile(`dist/${node}/FlowpostSendEmail.node.json`, `${JSON.stringify(codex, undefined, 2)}\n`);

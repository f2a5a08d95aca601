// Cognigy takes an archive with one file of code: CommonJS, without import(), which the machine it runs in does not have.
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { build } from 'rolldown';
import { create } from 'tar';
import { thirdPartyLicences } from '../../tools/third-party.js';

const extension = 'dist/extension';

await build({
  input: 'src/module.ts',
  platform: 'node',
  transform: { target: 'node20' },
  resolve: { conditionNames: ['@flowpost/source', 'node', 'import', 'default'] },
  plugins: [thirdPartyLicences],
  output: {
    file: `${extension}/build/module.js`,
    format: 'cjs',
    exports: 'named',
    codeSplitting: false,
    dynamicImportInCjs: false,
    minify: true,
    comments: { legal: true },
  },
});

const { name, version, description, license } = JSON.parse(await readFile('package.json', 'utf8'));
const manifest = { name, version, description, license, main: 'build/module.js' };
await mkdir(extension, { recursive: true });
await writeFile(`${extension}/package.json`, `${JSON.stringify(manifest, undefined, 2)}\n`);
for (const file of ['README.md', 'icon.png']) await copyFile(file, `${extension}/${file}`);
await copyFile('../../LICENSE', `${extension}/LICENSE`);
await create({ gzip: true, cwd: extension, file: 'dist/flowpost-cognigy.tar.gz', portable: true }, [
  'build',
  'package.json',
  'README.md',
  'LICENSE',
  'icon.png',
]);

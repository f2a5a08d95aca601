import { execFile } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { OAuthServer, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Manifest, manifests, readRootFile, root } from './repository.ts';

// What is published is what counts: each package is packed, checked as a tarball, and installed alone into an empty
// project outside the workspace, where its README's example must run.

const runFile = promisify(execFile);
const published = manifests.filter((manifest) => manifest.private !== true);
const byName = new Map(published.map((manifest) => [manifest.name, manifest]));
const longEnough = 120_000;

let folder: string;
const tarballs = new Map<string, string>();

/** The package and every package of ours that it needs. */
function closure({ name, dependencies = {} }: Manifest): string[] {
  const ours = Object.keys(dependencies).flatMap((dependency) => byName.get(dependency) ?? []);
  return [...new Set([name, ...ours.flatMap(closure)])];
}

async function run(
  program: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  try {
    // Without the workspace's own condition and settings.
    const clean = { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1', ...env };
    const { stdout } = await runFile(program, [...args], { cwd, env: clean, maxBuffer: 1 << 24 });
    return stdout;
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(' ')} failed\n${stdout}\n${stderr}`, { cause: error });
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowpost-packages-'));
  for (const { folder: from, name } of published) {
    expect(existsSync(join(root, from, 'dist')), `${from} is built`).toBe(true);
    const stdout = await run('pnpm', ['pack', '--pack-destination', folder, '--json'], join(root, from));
    tarballs.set(name, JSON.parse(stdout).filename);
  }
}, longEnough);
afterAll(() => rm(folder, { recursive: true }));

/** An empty project with nothing but the package, and those of ours it needs, from their tarballs. */
async function installAlone(manifest: Manifest): Promise<string> {
  const project = join(folder, manifest.name.replace(/\W+/g, '-'));
  await mkdir(project);
  const overrides = closure(manifest).map((name) => `  '${name}': 'file:${tarballs.get(name)}'`);
  await writeFile(
    join(project, 'pnpm-workspace.yaml'),
    `packages: []\noverrides:\n${overrides.join('\n')}\n`,
  );
  // What its README tells people to install, and nothing else.
  const named =
    /^npm install (?:--\S+ )*(.+)$/m.exec(readRootFile(`${manifest.folder}/README.md`))?.[1] ?? '';
  expect(named).toContain(manifest.name);
  const dependencies = Object.fromEntries(
    named.split(' ').map((name) => [name, `file:${tarballs.get(name)}`]),
  );
  await writeFile(
    join(project, 'package.json'),
    JSON.stringify({ private: true, type: 'module', dependencies }),
  );
  await run('pnpm', ['install', '--prefer-offline', '--ignore-scripts', '--reporter=append-only'], project);
  return project;
}

const libraries = published.filter(({ types }) => types !== undefined);
it.each(libraries)(
  '$name has types that resolve',
  async ({ name }) => {
    await run('attw', [tarballs.get(name) ?? '', '--profile', 'esm-only', '--no-emoji'], root);
  },
  longEnough,
);

describe.each(published)('$name', (manifest) => {
  it(
    'passes publint',
    async () => {
      await run('publint', ['--strict', tarballs.get(manifest.name) ?? ''], root);
    },
    longEnough,
  );

  it(
    'installs alone, holds no tests, and does what its README shows',
    async () => {
      const project = await installAlone(manifest);
      const own = join(project, 'node_modules', manifest.name);
      expect(globSync('**/*.test.*', { cwd: own })).toEqual([]);
      const packed = JSON.parse(await readFile(join(own, 'package.json'), 'utf8'));
      expect(JSON.stringify(packed)).not.toMatch(/workspace:|catalog:/);

      if (manifest.bin) {
        // Bundled, so no compiler has made it older: Node.js 22, which `engines` names, would not even parse this.
        for (const file of globSync('dist/*.cjs', { cwd: own }))
          expect(await readFile(join(own, file), 'utf8'), file).not.toMatch(/\bawait using\b/);
        const licences = await readFile(join(own, 'dist', 'THIRD-PARTY-LICENCES.txt'), 'utf8');
        for (const bundled of ['zod', 'undici', 'file-type', 'liquidjs', 'jose', 'openid-client'])
          expect(licences).toMatch(new RegExp(`^${bundled} \\d[\\s\\S]*?Permission is hereby granted`, 'm'));
        const printed = await run(join(project, 'node_modules', '.bin', 'flowpost'), ['--version'], project);
        expect(printed).toBe(`${packed.version}\n`);
        await using inbox = await SmtpInbox.start();
        const home = { HOME: project };
        await run(
          join(project, 'node_modules', '.bin', 'flowpost'),
          ...([
            [
              'send',
              '--connection',
              inbox.url,
              '--from',
              'a@x.org',
              '--to',
              'b@x.org',
              '--subject',
              'Hi',
              '--text',
              'x',
            ],
          ] as const),
          ...([project, home] as const),
        );
        expect(inbox.messages.map(({ subject }) => subject)).toEqual(['Hi']);
        // Every command is there, with what it needs.
        for (const name of ['batch', 'run', 'preview', 'verify', 'catch', 'secret', 'completion']) {
          const failed = run(
            join(project, 'node_modules', '.bin', 'flowpost'),
            [name, '--json', '--unknown'],
            project,
            home,
          );
          await expect(failed).rejects.toThrow('"USAGE"');
        }
        await run(join(project, 'node_modules', '.bin', 'flowpost'), ['services', 'Gmail'], project, home);
        return;
      }
      if (manifest['node-red']) {
        // Node-RED takes the forms from the page beside the code.
        for (const code of Object.values(manifest['node-red'].nodes))
          expect(existsSync(join(own, code.replace(/\.js$/, '.html')))).toBe(true);
        const load = `import register from '${manifest.name}'; process.stdout.write(typeof register);`;
        expect(await run('node', ['--input-type=module', '-e', load], project)).toBe('function');
        return;
      }
      if (manifest.n8n) {
        const files = [...manifest.n8n.nodes, ...manifest.n8n.credentials].map((file) => join(own, file));
        const load = `const { parse } = require('node:path');
          for (const file of ${JSON.stringify(files)}) new (require(file)[parse(file).name.split('.')[0]])();
          process.stdout.write('loaded');`;
        expect(await run('node', ['--input-type=commonjs', '-e', load], project)).toBe('loaded');
        return;
      }
      const archive = Object.values(manifest.exports ?? {}).find((one) => String(one).endsWith('.tar.gz'));
      if (archive !== undefined) {
        // What is uploaded is all there is: nothing was installed beside it.
        await mkdir(join(project, 'uploaded'));
        await run('tar', ['xzf', join(own, String(archive)), '-C', 'uploaded'], project);
        const load =
          "const { nodes } = require('./uploaded').default; process.stdout.write(nodes.map(({ type }) => type).join());";
        expect(await run('node', ['--input-type=commonjs', '-e', load], project)).toMatch(
          /^flowpostSendEmail,/,
        );
        return;
      }
      const example = /```js\n(.*?)```/s.exec(readRootFile(`${manifest.folder}/README.md`))?.[1];
      if (example === undefined) throw new Error('the README has no example');
      await writeFile(join(project, 'example.js'), example);
      await using inbox = await SmtpInbox.start();
      await using issuer = await OAuthServer.start({ secrets: { 'client-id': 'hunter2' } });
      const printed = await run('node', ['example.js'], project, {
        SMTP_URL: inbox.url,
        TOKEN_ENDPOINT: issuer.tokenEndpoint,
      });
      expect(printed).not.toBe('');
      expect(printed).not.toContain('hunter2');
      if (example.includes('SMTP_URL')) expect(inbox.messages).toHaveLength(1);
      if (example.includes('TOKEN_ENDPOINT')) expect(issuer.requests).toHaveLength(1);
    },
    longEnough,
  );
});

it('core alone brings neither a mail library nor an HTTP or OAuth client', async () => {
  const installed = globSync('node_modules/.pnpm/*', { cwd: join(folder, '-flowpost-core') }).join();
  expect(installed).toMatch(/zod@/);
  expect(installed).not.toMatch(/nodemailer|openid-client|undici|smtp-server/);
});

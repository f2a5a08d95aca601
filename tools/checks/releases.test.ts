import { globSync } from 'node:fs';
import { expect, it } from 'vitest';
import { manifests, readRootFile, root } from './repository.ts';

const config = JSON.parse(readRootFile('.changeset/config.json')) as {
  readonly ignore: readonly string[];
  readonly privatePackages?: { readonly version: boolean };
};

const changesets = globSync('.changeset/*.md', { cwd: root });
const cli = manifests.find(({ name }) => name === '@flowpost/cli');
/** What the command holds within it; a new release of theirs reaches nobody who uses the command. */
const bundled = Object.keys(cli?.devDependencies ?? {}).filter((name) => name.startsWith('@flowpost/'));

it.each(changesets)('%s names the command beside what is bundled into it', (file) => {
  const [, head = ''] = readRootFile(file).split(/^---$/m);
  const named = [...head.matchAll(/^'(@flowpost\/[\w-]+)': (?:major|minor|patch)$/gm)].map(
    ([, name = '']) => name,
  );
  expect(named.length).toBeGreaterThan(0);
  expect(manifests.map(({ name }) => name)).toEqual(expect.arrayContaining(named));
  if (named.some((name) => bundled.includes(name))) expect(named).toContain('@flowpost/cli');
  // Changesets takes none that names what it has no version for beside others.
  const hasPrivate = manifests.some((one) => one.private && named.includes(one.name));
  if (hasPrivate) expect(config.privatePackages?.version).toBe(true);
  expect(named.filter((name) => config.ignore.includes(name))).toEqual([]);
});

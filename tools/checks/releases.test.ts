import { globSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type Manifest, manifests, readRootFile, root } from './repository.ts';

const config = JSON.parse(readRootFile('.changeset/config.json')) as {
  readonly ignore: readonly string[];
  readonly privatePackages?: { readonly version: boolean };
};

const changesets = globSync('.changeset/*.md', { cwd: root });
/** What is published with others of ours within it: a new release of those reaches nobody who uses it. */
const bundles = manifests.filter(
  ({ scripts, private: isPrivate }) => !isPrivate && scripts?.build === 'node build.js',
);
const isWithin = ({ devDependencies = {} }: Manifest, name: string): boolean =>
  name !== '@flowpost/testing' && name in devDependencies;

it('knows what is bundled', () => {
  expect(bundles.map(({ folder }) => folder)).toEqual(['apps/cli', 'packages/cognigy', 'packages/n8n']);
});

it.each(changesets)('%s names what is a bundle beside what is within it', (file) => {
  const [, head = ''] = readRootFile(file).split(/^---$/m);
  const named = [...head.matchAll(/^'(@flowpost\/[\w-]+)': (?:major|minor|patch)$/gm)].map(
    ([, name = '']) => name,
  );
  expect(named.length).toBeGreaterThan(0);
  expect(manifests.map(({ name }) => name)).toEqual(expect.arrayContaining(named));
  const holding = bundles.filter((bundle) => named.some((name) => isWithin(bundle, name)));
  expect(named).toEqual(expect.arrayContaining(holding.map(({ name }) => name)));
  // Changesets takes none that names what it has no version for beside others.
  const hasPrivate = manifests.some((one) => one.private && named.includes(one.name));
  if (hasPrivate) expect(config.privatePackages?.version).toBe(true);
  expect(named.filter((name) => config.ignore.includes(name))).toEqual([]);
});

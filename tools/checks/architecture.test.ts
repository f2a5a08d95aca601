import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { manifests, readRootFile, root } from './repository.ts';

const homes = [...readRootFile('ARCHITECTURE.md').matchAll(/^\|[^|\n]+\| `([^`\n]+)` \|$/gm)].map(
  ([, home = '']) => home,
);

describe('ARCHITECTURE.md', () => {
  it('has a table of homes', () => {
    expect(homes.length).toBeGreaterThan(35);
    expect(new Set(homes).size).toBe(homes.length);
  });

  it.each(homes)('%s exists', (home) => {
    expect(existsSync(join(root, home))).toBe(true);
    expect(statSync(join(root, home)).isDirectory()).toBe(home.endsWith('/'));
  });
});

describe('every package', () => {
  it.each(manifests.map(({ folder }) => folder))('%s has a README', (folder) => {
    expect(readRootFile(`${folder}/README.md`).length).toBeGreaterThan(50);
  });
});

describe('every public name says what it is', () => {
  const entries = manifests
    .map(({ folder }) => `${folder}/src/index.ts`)
    .filter((index) => existsSync(join(root, index)));
  const files = entries.flatMap((index) =>
    [...readRootFile(index).matchAll(/export (?:type )?\{([^}]+)\} from '\.\/([^']+)'/g)].map(
      ([, names = '', file = '']) => ({
        file: join(index, '..', file),
        names: names.match(/\w+(?=,|\s*$)/g) ?? [],
      }),
    ),
  );

  it.each(files)('$file', ({ file, names }) => {
    const documented = /\*\/\nexport (?:abstract |async )*(?:function\*?|class|const|type|interface) (\w+)/g;
    const found = [...readRootFile(file).matchAll(documented)].map(([, name]) => name);
    expect(names.filter((name) => !found.includes(name))).toEqual([]);
  });
});

it.each(['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md'])(
  'the links in %s lead somewhere',
  (file) => {
    const links = [...readRootFile(file).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link = '']) => link);
    for (const link of links) expect(existsSync(join(root, link)), link).toBe(true);
  },
);

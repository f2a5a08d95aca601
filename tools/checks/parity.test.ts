import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readRootFile, sources } from './repository.ts';

// What other platforms promise stands in docs/parity, a row each, with the test that shows it. Both must tell the same.

const idPattern = /\b(?:COG|CTX|M365|DIA)-\d\d\b/g;
const pages = ['cognigy', 'cortex', 'diaflow'].map((name) => `docs/parity/${name}.md`);

const rows = pages.flatMap((page) =>
  [...readRootFile(page).matchAll(/^\| ([A-Z0-9]+-\d\d) \| (.+) \| \[(.+)\]\((.+)\) \|$/gm)].map(
    ([, id = '', promise = '', name = '', link = '']) => ({ page, id, promise, name, link }),
  ),
);
const tests = sources.filter(
  ([path]) => path.startsWith('packages/node-adapter/') && path.endsWith('.test.ts'),
);

describe('docs/parity', () => {
  it('has a row for every promise, each with an id of its own', () => {
    expect(rows.length).toBeGreaterThan(170);
    expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
    for (const page of pages) {
      const listed = readRootFile(page).match(/^\| [A-Z0-9]+-\d\d \|/gm) ?? [];
      expect(rows.filter((row) => row.page === page)).toHaveLength(listed.length);
    }
  });

  it('numbers them without gaps', () => {
    const byKind = Map.groupBy(rows, ({ id }) => id.split('-')[0] ?? '');
    for (const [kind, ofKind] of byKind) {
      const wanted = ofKind.map((_, index) => `${kind}-${String(index + 1).padStart(2, '0')}`);
      expect(ofKind.map(({ id }) => id)).toEqual(wanted);
    }
  });

  it.each(rows)('$id is tested where the row says', ({ id, name, link }) => {
    const path = link.replace(/^\.\.\/\.\.\//, '');
    expect(basename(path)).toBe(name);
    const [, text = ''] = tests.find(([file]) => file === path) ?? [];
    // In a test's title, or in the table its title takes it from.
    expect(text).toMatch(new RegExp(`\\[${id}\\]|'${id}',`));
  });

  it('every id in a test has its row', () => {
    const known = new Set(rows.map(({ id }) => id));
    const unknown = tests.flatMap(([path, text]) =>
      (text.match(idPattern) ?? []).filter((id) => !known.has(id)).map((id) => `${path}: ${id}`),
    );
    expect(unknown).toEqual([]);
  });
});

import fc from 'fast-check';
import { Liquid } from 'liquidjs';
import { expect, it } from 'vitest';
import { PlainTemplate } from './plain-template.ts';

const write = (value: unknown): string => `<${typeof value === 'object' ? JSON.stringify(value) : value}>`;
const liquid = new Liquid({
  ...{ strictVariables: true, strictFilters: true, ownPropertyOnly: true, outputEscape: write },
});

const name = fc.constantFrom(
  'row',
  'a',
  'b',
  'email',
  'size',
  'first',
  'true',
  'nil',
  'x_1',
  'toString',
  'and',
);
const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null), fc.constant([1, 2]));
const data = fc.dictionary(
  name,
  fc.oneof(value, fc.dictionary(name, fc.oneof(value, fc.dictionary(name, value)))),
);
const piece = fc.oneof(
  fc.constantFrom('{{', '}}', '{%', '{', '}', ' ', '\n', '-', '|', '"', '.', '{{ a }}', '{{- a -}}'),
  fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `{{ ${names.join('.')} }}`),
  fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join('.')),
  fc.string(),
);

const outcome = (work: () => unknown): unknown => {
  try {
    return work();
  } catch {
    return 'an error';
  }
};

it('what it says is what Liquid says', () => {
  let said = 0;
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), data, (pieces, scope) => {
      const template = pieces.join('');
      const text = PlainTemplate.parse(template)?.render(scope, write);
      if (text === undefined) return;
      said++;
      expect(text).toBe(outcome(() => liquid.parseAndRenderSync(template, scope)));
    }),
    { numRuns: 3_000 },
  );
  expect(said).toBeGreaterThan(500);
});

it('so it is with the value of an expression', () => {
  let said = 0;
  fc.assert(
    fc.property(fc.array(name, { minLength: 1, maxLength: 3 }), data, (names, scope) => {
      const found = PlainTemplate.value(names.join('.'), scope);
      if (found === undefined) return;
      said++;
      expect(found).toEqual(outcome(() => liquid.evalValueSync(names.join('.'), scope)));
    }),
    { numRuns: 3_000 },
  );
  expect(said).toBeGreaterThan(100);
});

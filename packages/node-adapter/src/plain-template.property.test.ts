import fc from 'fast-check';
import { expect, it } from 'vitest';
import { resolveDynamicFields } from './dynamic-fields.ts';
import { parseFlowData } from './flow/flow-data.ts';
import type { FieldKind } from './liquid.ts';
import { PlainTemplate } from './plain-template.ts';

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
const names = fc.array(name, { minLength: 1, maxLength: 3 }).map((all) => all.join('.'));
const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null), fc.constant([1, '<']));
const record = (inner: fc.Arbitrary<unknown>) => fc.dictionary(name, inner);
const data = record(fc.oneof(value, record(fc.oneof(value, record(value)))));
const piece = fc.oneof(
  fc.constantFrom('{{', '}}', '{%', '{', '}', ' ', '\n', '-', '|', '"', '.', '{{ a }}', '{{- a -}}'),
  names.map((path) => `{{ ${path} }}`),
  names,
  fc.string(),
);

const flow = parseFlowData({});
function resolved(field: string, scope: Readonly<Record<string, unknown>>, kind: FieldKind): unknown {
  try {
    const kinds = new Map([['field', kind]]);
    return (resolveDynamicFields({ field }, flow, kinds, scope) as { readonly field: unknown }).field;
  } catch (error) {
    return (error as { code: string }).code;
  }
}
/** Says nothing, and is a tag, so that all of it is Liquid's. */
const comment = '{% comment %}{% endcomment %}';

it('text with names in it becomes what Liquid makes of it', () => {
  let plain = 0;
  fc.assert(
    fc.property(
      ...[fc.array(piece, { maxLength: 6 }), data, fc.constantFrom<FieldKind>('text', 'html')],
      (pieces, scope, kind) => {
        const template = `.${pieces.join('')}`;
        if (PlainTemplate.parse(template)?.render(scope, () => '') === undefined) return;
        plain++;
        expect(resolved(template, scope, kind)).toEqual(resolved(comment + template, scope, kind));
      },
    ),
    { numRuns: 3_000 },
  );
  expect(plain).toBeGreaterThan(500);
});

it('a field that is a name becomes the value Liquid finds', () => {
  let plain = 0;
  fc.assert(
    fc.property(names, data, (path, scope) => {
      if (PlainTemplate.value(path, scope) === undefined) return;
      plain++;
      const other = `{{ ${path} | default: ${path}, allow_false: true }}`;
      const [found, byLiquid] = [`{{ ${path} }}`, other].map((field) => resolved(field, scope, 'text'));
      expect(found).toEqual(byLiquid);
    }),
    { numRuns: 3_000 },
  );
  expect(plain).toBeGreaterThan(100);
});

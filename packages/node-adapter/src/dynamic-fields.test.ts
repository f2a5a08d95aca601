import { describe, expect, it, vi } from 'vitest';
import { assertDynamicFields, resolveDynamicFields } from './dynamic-fields.ts';
import { parseFlowData } from './flow/flow-data.ts';
import { readWritten } from './written-settings.ts';

const bytes = new Uint8Array([1, 2]);
const flow = parseFlowData({
  input: {
    name: 'Ann & <b>',
    list: ['a', 'b'],
    none: null,
    zero: 0,
    bytes,
    deep: { er: [{ x: 'y' }] },
    tricky: '{{ input.name }}',
  },
  context: { when: new Date(0) },
  variables: { details: { host: 'h' }, Order: 7 },
  trigger: { kind: 'email', from: 'x@y.org' },
});
const resolve = (value: unknown, ...html: string[]): unknown =>
  (
    resolveDynamicFields({ field: value }, flow, new Map(html.map((one) => [one, 'html']))) as {
      field: unknown;
    }
  ).field;
const failure = (value: unknown, key = 'field') => {
  try {
    resolveDynamicFields({ [key]: value }, flow);
  } catch (error) {
    return error;
  }
  throw new Error('resolved');
};

describe('a field that is one expression keeps the type', () => {
  it.each([
    ['{{ input.list }}', flow.input.list],
    ['{{input.bytes}}', bytes],
    ['  {{ input.deep.er }}\n', [{ x: 'y' }]],
    ['{{ input.deep.er[0].x }}', 'y'],
    ['{{ input["list"][1] }}', 'b'],
    ['{{ input.none }}', null],
    ['{{ input.zero }}', 0],
    ['{{ variables.Order }}', 7],
    ['{{ trigger.from }}', 'x@y.org'],
    ['{{ input.list | first }}', 'a'],
    ['{{ input.absent | default: "d" }}', 'd'],
    ['{{ input.absent.further | default: input.list }}', ['a', 'b']],
    ['{{- input.zero -}}', 0],
  ])('%s', (text, expected) => {
    expect(resolve(text)).toEqual(expected);
    if (expected === bytes) expect(resolve(text)).toBe(bytes);
  });
});

describe('text with expressions', () => {
  it.each([
    ['Hi {{ input.name }}!', 'Hi Ann & <b>!'],
    ['{{ input.zero }}{{ input.zero }}', '00'],
    ['to {{ input.list }}', 'to a, b'],
    ['{{ input.none }}.', '.'],
    ['at {{ context.when }}', 'at 1970-01-01T00:00:00.000Z'],
    ['{{ input.deep }}!', '{"er":[{"x":"y"}]}!'],
    ['{% for one in input.list %}[{{ one }}]{% endfor %}', '[a][b]'],
    ['{% if input.absent %}yes{% else %}no{% endif %}', 'no'],
    ['Dear {{ input.absent | default: "customer" }}', 'Dear customer'],
    ['no expression { } %', 'no expression { } %'],
    ['@media{a{color:red}}', '@media{a{color:red}}'],
  ])('%s', (text, expected) => {
    expect(resolve(text)).toBe(expected);
  });

  it('HTML is escaped in HTML fields, unless the filter raw says otherwise', () => {
    expect(resolve('<p>{{ input.name }}</p>', 'field')).toBe('<p>Ann &amp; &lt;b&gt;</p>');
    expect(resolve('<p>{{ input.name | raw }}</p>', 'field')).toBe('<p>Ann & <b></p>');
  });

  it.each([
    ['{% if input.zero &lt; 3 &amp;&amp; true %}few{% endif %}', undefined],
    ['{% if input.zero &lt; 3 %}few &amp; {% endif %}<b>', 'few &amp; <b>'],
    [
      '<p>Hi&nbsp;{{&nbsp;input.none&nbsp;| default: &quot;a &lt; b&quot; }}</p>',
      '<p>Hi&nbsp;a &amp;lt; b</p>',
    ],
    [`{{ "x<y" | replace: "<", '&lt;' | raw }}!`, 'x&lt;y!'],
  ])('expressions are as they were before an editor of rich text wrote them: %s', (text, expected) => {
    const kinds = new Map([['field', 'html' as const]]);
    if (expected === undefined) {
      expect(() => resolve(text, 'field')).toThrow();
      expect(() => assertDynamicFields({ field: text }, kinds)).toThrow();
    } else {
      expect(resolve(text, 'field')).toBe(expected);
      expect(() => assertDynamicFields({ field: text }, kinds)).not.toThrow();
    }
    expect(failure('{{&nbsp;input.zero }}')).toMatchObject({ code: 'DYNAMIC_FIELD_INVALID' });
  });

  it('what does not end is looked for once, and what is not worked out stays', () => {
    const looks = vi.spyOn(String.prototype, 'indexOf');
    expect(() => resolve(`&${'{{ a '.repeat(2_000)}`, 'field')).toThrow();
    expect(looks.mock.calls.filter(([text]) => text === '}}').length).toBeLessThan(50);
    looks.mockRestore();
    const raw = '&{% raw %}{{ a &lt; b }}{% endraw %}{{ input.zero &gt; 1 }}';
    expect(resolve(raw, 'field')).toBe('&{{ a &lt; b }}false');
  });

  it('what stands in a value of the flow is data, not an expression', () => {
    expect(resolve('{{ input.tricky }}')).toBe('{{ input.name }}');
    expect(resolve('> {{ input.tricky }}')).toBe('> {{ input.name }}');
    expect(resolve({ $variable: 'details' })).toBe(flow.variables.details);
  });
});

describe('what cannot be worked out', () => {
  it.each([
    ['{{ input.absent }}', 'input.absent'],
    ['x {{ input.deep.nowhere.else }}', 'input.deep.nowhere'],
    ['{{ nothing }}', 'nothing'],
    ['{{ input.constructor }}', 'input.constructor'],
    ['{{ input.__proto__ }}', 'input.__proto__'],
    ['{{ input.list.constructor }}', 'input.list.constructor'],
    ['{{ input[trigger.from] }}', 'a value'],
  ])('%s names field and path', (text, path) => {
    expect(failure([{ a: text }])).toMatchObject({
      code: 'DYNAMIC_FIELD_MISSING',
      category: 'input',
      details: { field: 'field[0].a', path: expect.stringContaining(path) },
    });
  });

  it.each([
    '{{ input.list | nofilter }}',
    '{{ input.list[ }}',
    '{% for %}{% endfor %}',
    '{% include "package.json" %}',
    '{% render "/etc/passwd" %}',
    '{% layout "x" %}',
    '{% nosuchtag %}',
    '{{ input.name input.list }}',
    '{{ input.name, input.list }}',
    '{% for i in (1..100000000) %}{{ i }}{% endfor %}',
  ])('%s is an error that names the field', (text) => {
    expect(failure(text)).toMatchObject({ code: 'DYNAMIC_FIELD_INVALID', details: { field: 'field' } });
  });

  it.each([
    '{{ row.list | nofilter }}',
    'Hi {{ row.name | nofilter: 1 }}',
    'Hi {{ row.name',
    '{% if row.name %}Hi',
    '{{ row.name row.list }}',
    '{% nosuchtag %}',
  ])('%s is known to be wrong before there is anything to work it out with', (text) => {
    const read = () => assertDynamicFields({ list: [{ field: text }] });
    expect(read).toThrow(
      expect.objectContaining({
        code: 'DYNAMIC_FIELD_INVALID',
        details: expect.objectContaining({ field: 'list[0].field' }),
      }),
    );
  });

  it('a text that is longer than Liquid takes can be read where it can be worked out', () => {
    const html = `<p>{{ input.zero }}</p><img src="data:image/png;base64,${'A'.repeat(6_000_000)}">`;
    expect(resolve(html)).toHaveLength(html.length - '{{ input.zero }}'.length + 1);
    expect(() => assertDynamicFields({ html })).not.toThrow();
  });

  it('what only lacks its values can be read', () => {
    const loop = '{% for one in row.lines %}{{ one.text | upcase }}{% endfor %}';
    const secret = { password: 'a{{b', variable: { $variable: 'any' } };
    expect(() => assertDynamicFields({ to: '{{ row.email }}', text: loop, secret })).not.toThrow();
  });

  it('a loop that would not end is ended', () => {
    const loop = '{% for a in (1..3000) %}{% for b in (1..3000) %}{% assign c = b %}{% endfor %}{% endfor %}';
    expect(failure(`${loop}${loop}${loop}${loop}`)).toMatchObject({ code: 'DYNAMIC_FIELD_INVALID' });
  });

  // Without an end, each takes minutes.
  it.each([
    'a{{ (1..N) | where_exp: "x", E | size }}',
    '{% assign a = (1..N) | group_by_exp: "x", E %}',
    '{{ (1..N) | find_exp: "x", E }}',
  ])('so is a filter that does not: %s', (text) => {
    const row = Array.from({ length: 200_000 }, (_, index) => index);
    const field = text.replace('N', '200000').replace('E', '"input.row contains -1"');
    expect(() => resolveDynamicFields({ field }, parseFlowData({ input: { row } }))).toThrowError(
      expect.objectContaining({ code: 'DYNAMIC_FIELD_INVALID' }),
    );
  });

  it('and works as it does without a limit', () => {
    const flow = parseFlowData({ input: { list: [{ n: 1 }, { n: 2 }, { n: 3 }] } });
    const text = '{{ input.list | where_exp: "x", "x.n > 1" | map: "n" | join }}';
    expect(resolveDynamicFields({ field: `=${text}` }, flow)).toEqual({ field: '=2 3' });
  });

  it('a date that is none is a mistake, in a text too', () => {
    const data = parseFlowData({ input: { d: new Date('31.02.2026') } });
    expect(() => resolveDynamicFields({ field: 'on {{ input.d }}' }, data)).toThrowError(
      expect.objectContaining({ code: 'DYNAMIC_FIELD_INVALID' }),
    );
  });

  it('a variable that is not there', () => {
    expect(failure({ $variable: 'absent' })).toMatchObject({
      code: 'DYNAMIC_FIELD_MISSING',
      details: { field: 'field', path: 'variables.absent' },
    });
    expect(failure({ $variable: 'constructor' })).toMatchObject({ code: 'DYNAMIC_FIELD_MISSING' });
  });
});

it('a secret is an expression as a whole or not at all', () => {
  const settings = { auth: { password: 'a{{b}}c', clientSecret: '{{ variables.Order }}' } };
  expect(resolveDynamicFields(settings, flow)).toEqual({ auth: { password: 'a{{b}}c', clientSecret: 7 } });
});

it('settings that lead back to themselves, or go too deep, are an error, at once', () => {
  const settings: Record<string, unknown> = { s: 'x' };
  settings.x = settings;
  settings.y = settings;
  expect(failure(settings)).toMatchObject({ code: 'DYNAMIC_FIELD_INVALID' });
  let deep: unknown = '{{ input.name }}';
  for (let depth = 0; depth < 200; depth++) deep = [deep];
  expect(failure(deep)).toMatchObject({ code: 'DYNAMIC_FIELD_INVALID' });
  const shared = { text: '{{ input.zero }}!' };
  expect(resolve([shared, shared])).toEqual([{ text: '0!' }, { text: '0!' }]);
});

it('nothing of a secret is in an error', () => {
  for (const connection of [
    'smtps://u:pw{{hunter2}}x@h.org',
    'smtps://u:pw{%hunter2@h.org',
    'smtps://u:{{ a | hunter2 }}@h',
  ]) {
    const error = failure(connection, 'connection') as { code: string };
    expect(error.code).toMatch(/^DYNAMIC_FIELD/);
    expect(JSON.stringify(error)).not.toContain('hunter2');
  }
  expect(JSON.stringify(failure('{{ hunter2 }}', 'password'))).not.toContain('hunter2');
});

describe('in a list of addresses', () => {
  const kinds = new Map([['to', 'addresses' as const]]);
  const to = (text: string, input: object): unknown =>
    (resolveDynamicFields({ to: text }, parseFlowData({ input }), kinds) as { to: unknown }).to;

  const hostile = {
    ...{ bob: 'bob@x.org', list: 'v1@x.org, v2@x.org, Bob', last: 'v@x.org, z', first: 'x" <v@x.org>, "y' },
    ...{ comment: 'a) <v@x.org>, (b', group: 'v@x.org, team:', slash: '\\', plain: 'Ann', nothing: '' },
  };

  it.each([
    ['{{ input.list }} <{{ input.bob }}>', '"v1@x.org, v2@x.org, Bob" <bob@x.org>'],
    ['"{{ input.list }}" <{{ input.bob }}>', '"v1@x.org, v2@x.org, Bob" <bob@x.org>'],
    [
      '"{{ input.first }} {{ input.last }}" <{{ input.bob }}>',
      '"x\\" <v@x.org>, \\"y v@x.org, z" <bob@x.org>',
    ],
    ['{{ input.last }} {{ input.plain }} <bob@x.org>', '"v@x.org, z" "Ann" <bob@x.org>'],
    ['"Dr. {{ input.first }}" <bob@x.org>', '"Dr. x\\" <v@x.org>, \\"y" <bob@x.org>'],
    ['"{{ input.first }}, MD" <bob@x.org>', '"x\\" <v@x.org>, \\"y, MD" <bob@x.org>'],
    ['{{ input.last }} (VIP) <bob@x.org>', '"v@x.org, z" (VIP) <bob@x.org>'],
    ['{% if true %}{{ input.last }}{% endif %} <bob@x.org>', '"v@x.org, z" <bob@x.org>'],
    [
      '{% capture who %}{{ input.last }} <{{ input.bob }}>{% endcapture %}{{ who }}',
      '"v@x.org, z" <bob@x.org>',
    ],
    [
      '{% capture who %}{{ input.last }} <bob@x.org>{% endcapture %}{{ who | slice: 3, 99 }}, c@x.org',
      undefined,
    ],
    ['bob@x.org ({{ input.comment }})', 'bob@x.org (a\\) <v@x.org>, \\(b)'],
    ['{{ input.nothing }} <{{ input.bob }}>, c@x.org', ' <bob@x.org>, c@x.org'],
    ['{{ input.bob }}, "{{ input.first }}" <c@x.org>', 'bob@x.org, "x\\" <v@x.org>, \\"y" <c@x.org>'],
    ['"{{ input.slash }}{{ input.first }}" <c@x.org>', '"\\\\x\\" <v@x.org>, \\"y" <c@x.org>'],
    ['Team: {{ input.bob }}, {{ input.plain }} <c@x.org>;', 'Team: bob@x.org, "Ann" <c@x.org>;'],
    ['{{ input.plain }}@{{ input.host }}', 'Ann@y.org'],
    [
      '{% capture who %}{{ input.last }}{% endcapture %}{{ who | append: " " | append: input.first }} <bob@x.org>',
      undefined,
    ],
    [
      '{% capture who %}NAME {{ input.plain }}{% endcapture %}{{ who | replace: "NAME", input.last }} <bob@x.org>',
      undefined,
    ],
    [
      '{% capture who %}{{ input.last }}{% endcapture %}{% assign it = who %}{{ it }} <bob@x.org>',
      '"v@x.org, z" <bob@x.org>',
    ],
    [
      '{% assign sep = "" %}{% for one in input.many %}{{ sep }}{{ one }}{% assign sep = ", " %}{% endfor %}',
      'a@x.org, b@x.org',
    ],
    ['{{ input.bob }}{{ "," }}{{ input.bob }}', 'bob@x.org,bob@x.org'],
    ['{{ input.named }} (boss), c@x.org', '"Ann, X" <a@x.org> (boss), c@x.org'],
    ['{{ input.last }}: b@x.org;', '"v@x.org, z": b@x.org;'],
    ['{{ input.last }} (a) <b@x.org>', '"v@x.org, z" (a) <b@x.org>'],
  ])('a name brings no recipients of its own: %s', (text, expected) => {
    const input = { ...hostile, host: 'y.org', many: ['a@x.org', 'b@x.org'], named: '"Ann, X" <a@x.org>' };
    if (expected === undefined) expect(() => to(text, input)).toThrowError();
    else expect(to(text, input)).toBe(expected);
    const asList = { to: ['a@x.org', [text]] };
    if (expected === undefined) return;
    expect(resolveDynamicFields(asList, parseFlowData({ input }), kinds)).toEqual({
      to: ['a@x.org', [expected]],
    });
  });

  it.each([
    '<{{ input.last }}@x.org>',
    '{{ input.last }}@x.org',
    'Bob <bob@{{ input.first }}>',
    '{{ input.group }}@x.org',
    '"a\\{{ input.first }}" <b@x.org>',
    '{{ input.plain }}, c@x.org',
  ])('what stands for one address is one, or the settings are wrong: %s', (text) => {
    expect(() => to(text, hostile)).toThrowError(
      expect.objectContaining({ code: expect.stringMatching(/^(?:DYNAMIC_FIELD|ADDRESS)_INVALID$/) }),
    );
  });

  it('what a list holds is no part of the others', () => {
    expect(() => to('{{ input.open }}, "Bob" <bob@x.org>', { open: 'v@x.org "' })).toThrowError();
    const list = [{ name: 'Ann, X', address: 'a@x.org' }, { address: 'b@x.org' }];
    expect(to('{{ input.list }}, c@x.org', { list })).toBe('"Ann, X" <a@x.org>, b@x.org, c@x.org');
    expect(
      to('{% for one in input.list %}{{ one.name }} <{{ one.address }}>, {% endfor %}c@x.org', {
        list: [{ name: 'x, v@x.org', address: 'b@x.org' }],
      }),
    ).toBe('"x, v@x.org" <b@x.org>, c@x.org');
  });

  it('what stands between angle brackets is one address', () => {
    expect(() => to('Bob <{{ input.email }}>', { email: 'a@x.org>, <v@x.org' })).toThrowError(
      expect.objectContaining({ code: 'DYNAMIC_FIELD_INVALID' }),
    );
  });

  it('lists stay lists', () => {
    expect(to('{{ input.list }}', { list: ['a@x.org'] })).toEqual(['a@x.org']);
    expect(to('c@x.org, {{ input.list }}', { list: ['a@x.org', 'b@x.org'] })).toBe(
      'c@x.org, a@x.org, b@x.org',
    );
  });
});

it('what is no plain data stays what it is', () => {
  const date = new Date(0);
  const settings = { date, bytes, map: new Map([['a', '{{ input.name }}']]), n: 1, nothing: undefined };
  expect(resolveDynamicFields(settings, flow)).toEqual(settings);
  expect((resolveDynamicFields(settings, flow) as typeof settings).bytes).toBe(bytes);
});

it('tells which settings are a variable, however they are written', () => {
  const { variables } = readWritten({
    a: { $variable: 'details' },
    b: '{{ variables.details }}',
    c: '{{ variables.details.host }}',
    d: { $variable: 'x', more: 1 },
    e: 'text',
    f: null,
  });
  expect([...variables]).toEqual([
    ['a', 'details'],
    ['b', 'details'],
  ]);
});

it('an expression for each item may have escapes in it', () => {
  const text = String.raw`{{ input.deep.er | where_exp: "one", "one.x == \"y\"" | map: "x" | join }}`;
  expect(resolve(text)).toBe('y');
});

describe('what an author did not write', () => {
  const values = { secret: 'C4N4RY', pipe: 'a | C4N4RY', list: [{ a: 1 }] };
  const said = (text: string): string => {
    try {
      resolveDynamicFields({ field: text }, parseFlowData({ input: values }));
    } catch (error) {
      return String((error as Error).message);
    }
    return 'resolved';
  };

  it.each([
    '{% include input.secret %}',
    '{% render input.secret %}',
    '{% layout input.secret %}',
    "{{ input.list | where_exp: 'x', input.pipe }}",
    "{{ input.list | find_exp: 'x', input.pipe }}",
    'x {{ "now" | date: "%Y", input.secret }}',
  ])('%s is refused and not repeated', (text) => {
    expect(said(text)).not.toContain('C4N4RY');
    expect(said(text)).not.toBe('resolved');
  });
});

it('bytes within a text are the text that they are', () => {
  expect(resolve('A {{ input.bytes }}')).toBe('A \x01\x02');
});

it.each(['{{ input.semi }}@x.org', '<{{ input.semi }}@x.org>', 'Bob <bob@{{ input.semi }}>'])(
  'what stands for one address is one, or the settings are wrong: %s',
  (to) => {
    const flow = parseFlowData({ input: { semi: 'v@x.org;z' } });
    expect(() => resolveDynamicFields({ to }, flow, new Map([['to', 'addresses']]))).toThrowError(
      expect.objectContaining({ code: 'DYNAMIC_FIELD_INVALID' }),
    );
  },
);

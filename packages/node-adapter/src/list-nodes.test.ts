import { readFile } from 'node:fs/promises';
import { parseWith } from '@flowpost/core';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { sendEmailNode } from './dialects/send-email/send-email.ts';
import { findNode, listNodes } from './list-nodes.ts';

const types = [
  'send-email',
  'cognigy.send-smtp-email',
  'cortex.send-email-using-smtp-server',
  'cortex.send-email-using-microsoft-365',
  'diaflow.smtp',
];

it('finds nodes by type, and names the known ones otherwise', () => {
  expect(findNode('send-email')).toBe(sendEmailNode);
  expect(() => findNode('send-fax')).toThrowError(
    expect.objectContaining({ code: 'NODE_TYPE_UNKNOWN', details: { type: 'send-fax', known: types } }),
  );
});

it('the README has every setting of our own node', async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
  const [, table = ''] = /## Settings of `send-email`\n(.*?)\n## /s.exec(readme) ?? [];
  const named = new Set(
    [...table.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, names = '']) => names.match(/\w+/g) ?? []),
  );
  const schema = z.toJSONSchema(sendEmailNode.settings, { io: 'input', unrepresentable: 'any' });
  expect([...named].toSorted()).toEqual(Object.keys(schema.properties ?? {}).toSorted());
});

describe.each(types)('%s', (type) => {
  const node = findNode(type);
  const fields = node.sections.flatMap((section) => section.fields);

  it('every setting has a field in the form, and every field is a setting', () => {
    const schema = z.toJSONSchema(node.settings, { io: 'input', unrepresentable: 'any' });
    const top = new Set(fields.map(({ name }) => name.split('.')[0]));
    expect([...top].toSorted()).toEqual(Object.keys(schema.properties ?? {}).toSorted());
    expect(new Set(fields.map(({ name }) => name)).size).toBe(fields.length);
  });

  it('whatever decides when a field is shown is a field too', () => {
    const names = fields.map(({ name }) => name);
    for (const { showWhen } of fields) if (showWhen) expect(names).toContain(showWhen.field);
  });

  it('a field that holds a secret is marked as one', () => {
    const secretive = fields.filter(({ name }) =>
      /password|secret|token$|credentials$|connection$|details$/i.test(name),
    );
    for (const { name, secret } of secretive) expect([name, secret]).toEqual([name, true]);
  });

  it('takes TLS options of which the form left each one empty, or only some', () => {
    const name = fields.find((one) => /tlsOptions$/i.test(one.name))?.name.split('.')[0] ?? 'connection';
    const empty = { ca: '', caFile: null, serverName: '', fingerprints: '', minVersion: '' };
    for (const more of [{}, { serverName: 'mail.example.com', dangerouslyAcceptAnyCertificate: 'false' }]) {
      const options = { ...empty, ...more };
      const value = name === 'connection' ? { host: 'h.example', tlsOptions: options } : options;
      const issues = node.settings.safeParse({ [name]: value }).error?.issues ?? [];
      expect(issues.filter(({ path }) => path[0] === name)).toEqual([]);
    }
  });

  it('is described with a JSON Schema that survives JSON', () => {
    const described = JSON.parse(JSON.stringify(listNodes())).find(
      (one: { type: string }) => one.type === type,
    );
    expect(described).toMatchObject({
      title: node.title,
      settingsSchema: { type: 'object', additionalProperties: false },
    });
    expect(described.summary.length).toBeGreaterThan(20);
  });
});

it('a connection is read as forms hand it over, fields within fields included', () => {
  const parse = (connection: object): unknown =>
    sendEmailNode.settings.parse({ connection: { host: 'h.example', ...connection }, to: 'a@x.org' })
      .connection;
  const auth = { kind: 'oauth2-refresh', user: 'me', accessToken: 'T', expiresAt: '1700000000000' };
  const empty = { refreshToken: '', clientId: '', clientSecret: null, tokenEndpoint: '' };
  expect(
    parse({
      auth: { ...auth, ...empty },
      limits: { connections: '3', idleMs: '' },
      timeouts: { connectMs: '7', dataMs: null },
      allowPlaintextAuth: 'false',
    }),
  ).toMatchObject({
    auth: { expiresAt: 1_700_000_000_000 },
    limits: { connections: 3 },
    timeouts: { connectMs: 7, dataMs: 180_000 },
    allowPlaintextAuth: false,
  });
  expect(parse({ auth: { kind: '', username: '', password: '' } })).not.toHaveProperty('auth.kind');
});

it.each([
  [{ date: 'yesterday' }, 'date: it must be a date and time with its offset'],
  [{ references: 7 }, 'references: it must be Message-IDs'],
  [
    { connection: { host: 'h', auth: { kind: 'basic', username: 'a', password: 5 } } },
    'it must be text, or encrypted text',
  ],
])('what is wrong with %j is said', (settings, message) => {
  const all = { connection: { host: 'h' }, to: 'a@x.org', ...settings };
  expect(() => parseWith(sendEmailNode.settings, all)).toThrow(message);
});

it('the schema tells defaults and choices', () => {
  const [node] = JSON.parse(JSON.stringify(listNodes()));
  expect(node.settingsSchema.properties.priority).toMatchObject({
    anyOf: [{ enum: ['high', 'normal', 'low'] }, { enum: ['', null] }, {}, {}],
    default: 'normal',
  });
});

it.each<[string, object]>([
  [
    'send-email',
    { connection: 'smtp://h', to: 'a@x.org', subject: null, priority: '', attachments: ['{{ input.file }}'] },
  ],
  [
    'send-email',
    {
      connection: { host: 'h', port: '{{ input.port }}', auth: { $variable: 'login' } },
      to: ['{{ input.to }}'],
    },
  ],
  [
    'cognigy.send-smtp-email',
    { emailService: 'other', smtpSettings: { host: 'h', port: '587', secure: 'true' }, subject: 5 },
  ],
  [
    'cognigy.send-smtp-email',
    {
      emailService: 'Gmail',
      authentication: { type: 'oauth2', user: 'a@x.org', expiryDate: '1700000000000', accessUrl: '' },
    },
  ],
  [
    'cortex.send-email-using-smtp-server',
    {
      EmailMessage: { To: [{ Name: null, Address: 'a@x.org' }], From: { $variable: 'from' }, Subject: null },
    },
  ],
  [
    'send-email',
    { connection: 'smtp://h', stopOnError: 'False', async: ' TRUE', headers: { 'X-A': 1, 'X-B': null } },
  ],
  ['diaflow.smtp', { credentials: { host: 'h', port: '465' }, to: 'a@x.org' }],
  ['diaflow.smtp', { credentials: { host: 'h', port: '{{ variables.p }}' }, to: 'a@x.org', subject: 7 }],
])('the schema of %s takes what forms and flows hand over: %j', (type, settings) => {
  const node = listNodes().find((one) => one.type === type);
  const schema = JSON.parse(JSON.stringify(node?.settingsSchema));
  // Other settings are of no interest here.
  const taken = z.fromJSONSchema({ ...schema, required: [] }).safeParse(settings);
  expect(taken.error?.issues ?? []).toEqual([]);
  expect(z.fromJSONSchema(schema).safeParse({ ...settings, Foo: 1 }).success).toBe(false);
});

it('the schema takes what the forms begin with', () => {
  for (const { sections, settingsSchema } of listNodes()) {
    const usual = sections
      .flatMap(({ fields }) => fields)
      .filter((field) => field.default !== undefined && !field.name.includes('.'))
      .map((field) => [field.name, field.default]);
    const schema = { ...JSON.parse(JSON.stringify(settingsSchema)), required: [] };
    expect(z.fromJSONSchema(schema).safeParse(Object.fromEntries(usual)).error?.issues ?? []).toEqual([]);
  }
});

import { runInNewContext } from 'node:vm';
import { cancellationOf, isError, toMailError } from '@flowpost/core';
import { SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { cognigyNode } from './dialects/cognigy/cognigy.ts';
import { diaflowNode } from './dialects/diaflow/diaflow.ts';
import { sendEmailNode } from './dialects/send-email/send-email.ts';
import { parseFlowData } from './flow/flow-data.ts';
import { runNode } from './run-node.ts';

// Platforms run the code of flows in a sandbox, and what is made there is of other classes with the same names.

const made = (code: string): never => runInNewContext(`(${code})`) as never;

it('data, dates, bytes and maps of a sandbox are data, dates, bytes and maps', async () => {
  await using inbox = await SmtpInbox.start();
  const flow = parseFlowData({
    input: made('{ when: new Date(0), bytes: new Uint8Array([104, 105]) }'),
    context: made('{ mail: { campaign: 1 } }'),
  });
  const settings = {
    connection: made(`{ host: '127.0.0.1', port: '${inbox.port}', tls: '' }`),
    ...{ from: 'a@x.org', to: made("[{ name: null, address: 'b@x.org' }]"), subject: 'on {{ input.when }}' },
    ...{ text: 'x', date: '{{ input.when }}', store: made("{ target: 'context', key: 'mail.result' }") },
    attachments: [{ kind: 'bytes', content: '{{ input.bytes }}', filename: 'a.txt' }],
  };
  expect(await runNode(sendEmailNode, settings, { flow })).toMatchObject({
    kind: 'continue',
    flow: { context: { mail: { campaign: 1, result: { status: 'sent' } } } },
  });
  expect(inbox.messages[0]).toMatchObject({ subject: 'on 1970-01-01T00:00:00.000Z', date: new Date(0) });
  expect(String(inbox.messages[0]?.attachments[0]?.content)).toBe('hi');
});

it('so it is with the nodes of platforms', async () => {
  await using inbox = await SmtpInbox.start();
  const flow = parseFlowData({});
  const cognigy = {
    emailService: 'other',
    smtpSettings: made(`{ host: '127.0.0.1', port: '${inbox.port}', secure: '' }`),
    authentication: made("{ type: '', username: '' }"),
    ...{ customFrom: 'a@x.org', to: 'b@x.org', content: 'x' },
    attachments: made("[{ type: 'custom', content: new Uint8Array([104, 105]), contentType: 'text/plain' }]"),
  };
  expect(await runNode(cognigyNode, cognigy, { flow })).toMatchObject({ receipt: { status: 'sent' } });
  const diaflow = {
    credentials: made(`{ host: '127.0.0.1', port: '${inbox.port}', fromEmail: 'a@x.org' }`),
    ...{ to: 'b@x.org', subject: 'x', message: 'x' },
    attachments: made('[new Uint8Array([104, 105])]'),
  };
  expect(await runNode(diaflowNode, diaflow, { flow })).toMatchObject({ receipt: { status: 'sent' } });
  expect(inbox.messages.map(({ attachments }) => String(attachments[0]?.content))).toEqual(['hi', 'hi']);
});

it.each([
  ['a line', { precedence: 'Precedence: bulk' }],
  ['a line of a bounce', { 'return-path': 'Return-Path: <>' }],
  ['lines', [{ key: 'auto-submitted', line: 'Auto-Submitted: auto-replied' }]],
  ['a Map of a sandbox', made("new Map([['precedence', 'bulk']])")],
])('headers of automatic mail as %s are headers', async (_, headers) => {
  await using inbox = await SmtpInbox.start();
  const settings = { connection: inbox.url, from: 'a@x.org', to: 'z@x.org', text: 'x' };
  const flow = parseFlowData({ trigger: { kind: 'email', from: 'z@y.org', headers } });
  expect(await runNode(sendEmailNode, settings, { flow })).toMatchObject({
    error: { code: 'MAIL_LOOP_AUTOMATIC' },
  });
  const asked = parseFlowData({
    trigger: { kind: 'email', from: 'z@y.org', headers: { 'auto-submitted': 'Auto-Submitted: no' } },
  });
  expect(await runNode(sendEmailNode, settings, { flow: asked })).toMatchObject({
    receipt: { status: 'sent' },
  });
});

it('an error of a sandbox is an error, and the end of its time is told from a wish', () => {
  expect(isError(made("new TypeError('x')"))).toBe(true);
  expect(isError(made("Object.assign(Object.create(Error.prototype), { message: 'x' })"))).toBe(false);
  const late = AbortSignal.abort(
    runInNewContext('new E("late", "TimeoutError")', { E: DOMException }) as DOMException,
  );
  expect(cancellationOf(late)).toMatchObject({ code: 'SEND_TIMED_OUT' });
  expect(toMailError(made("new RangeError('too far')")).message).toContain('too far');
});

it('an error with thousands of mistakes fits into the data of a flow', async () => {
  const bad = Array.from({ length: 10_000 }, (_, index) => `nobody${index}`);
  const headers = Object.fromEntries(bad.map((name) => [`${name} ${'x'.repeat(300)}`, 'x']));
  const unknown = Object.fromEntries(bad.map((name) => [name, 1]));
  for (const change of [
    unknown,
    { to: bad },
    { headers },
    { subject: `{{ input.${'a'.repeat(200_000)} }}` },
  ]) {
    const settings = {
      connection: 'smtp://127.0.0.1:1',
      from: 'a@x.org',
      to: 'b@x.org',
      text: 'x',
      ...change,
    };
    const outcome = await runNode(sendEmailNode, settings, { flow: parseFlowData({}) });
    if (!('error' in outcome)) throw new Error('it was sent');
    expect(JSON.stringify(outcome.error).length).toBeLessThan(60_000);
    if ('to' in change || 'headers' in change) expect(outcome.error.message).toContain('and 9950 more');
  }
});

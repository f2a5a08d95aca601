import { SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { startLocal } from './testing/local-server.test-support.ts';

const requests = process.env.FLOWPOST_SOAK ? 5_000 : 1_000;

/** Random numbers that are the same in every run. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

it(`${requests} malformed requests are answered, and none of them with a failure of the server`, async () => {
  await using inbox = await SmtpInbox.start();
  await using local = await startLocal();
  const random = randomNumbers(20_261_125);
  const pick = <Value>(values: readonly Value[]): Value =>
    values[Math.floor(random() * values.length)] as Value;
  const strange = () =>
    pick<unknown>([
      ...[
        null,
        true,
        0,
        -1,
        1e308,
        '',
        ' ',
        '\u0000',
        '😀',
        '\ud800',
        '__proto__',
        '{{ input.x }}',
        '{% include "x" %}',
      ],
      ...[
        [],
        [[[[]]]],
        {},
        { __proto__: 1 },
        { $variable: 'constructor' },
        'x'.repeat(10_000),
        inbox.url,
        '@mail',
        '@',
      ],
      ...[
        { constructor: { prototype: {} } },
        'a@x.org',
        '"',
        "'; drop table flowpost.deliveries; --",
        '../../etc/passwd',
      ],
    ]);
  const keys = [
    'connection',
    'from',
    'to',
    'subject',
    'text',
    'attachments',
    'store',
    'async',
    'retry',
    'headers',
    'x',
  ];
  const object = (names: readonly string[]) =>
    Object.fromEntries(Array.from({ length: Math.floor(random() * 6) }, () => [pick(names), strange()]));
  const body = (): unknown =>
    pick<() => unknown>([
      strange,
      () => ({ settings: object(keys), flow: object(['input', 'context', 'variables', 'trigger', 'x']) }),
      () => ({ settings: strange(), flow: strange(), nodeId: strange() }),
      () => object(['name', 'connection', 'scopes', 'outcome', 'node', 'settings']),
      () => ({ settings: { connection: inbox.url, from: 'a@x.org', to: 'b@x.org', ...object(keys) } }),
      () => pick(['{', '[', '{"a":', 'null', '\u0000', '{"__proto__":{"a":1}}', '{"settings":{"a":1e999}}']),
    ])();
  const segments = [
    'v1',
    'nodes',
    'send-email',
    'diaflow.smtp',
    'runs',
    'previews',
    'connections',
    'deliveries',
    'retry',
    'api-keys',
  ];
  const rest = [
    '%00',
    '..',
    '%2e%2e',
    '0',
    '00000000-0000-0000-0000-000000000000',
    "'",
    '%',
    'x'.repeat(300),
    '?limit=0',
    '?state=x',
  ];
  const known = [
    ...[
      '/v1/nodes/send-email/runs',
      '/v1/nodes/diaflow.smtp/runs',
      '/v1/nodes/cognigy.send-smtp-email/runs',
      '/v1/previews',
    ],
    ...[
      '/v1/connections',
      '/v1/api-keys',
      '/v1/deliveries?limit=-1',
      '/v1/deliveries?before=x',
      '/v1/events?after=x',
    ],
    ...[
      '/v1/deliveries/00000000-0000-0000-0000-000000000000/resolve',
      '/v1/connections/x/verify',
      '/v1/nodes/%00/runs',
    ],
  ];
  const path = () =>
    random() < 0.6
      ? pick(known)
      : `/${Array.from({ length: 1 + Math.floor(random() * 4) }, () => pick([...segments, ...rest])).join('/')}`;
  const failures: string[] = [];
  const statuses = new Map<number, number>();
  const one = async (): Promise<void> => {
    const method = pick(['GET', 'POST', 'POST', 'POST', 'PATCH', 'DELETE', 'PUT']);
    const where = path();
    const type = pick([
      'application/json',
      'application/json',
      'application/json',
      'text/plain',
      'application/xml',
      '',
    ]);
    const sent = body();
    const response = await fetch(`${local.url}${where}`, {
      method,
      headers: {
        authorization:
          random() < 0.95
            ? `Bearer ${local.key}`
            : String(pick(['', 'Bearer', 'Basic x', `Bearer ${'y'.repeat(300)}`])),
        ...(type !== '' && { 'content-type': type }),
        ...(random() < 0.1 && { 'idempotency-key': 'x'.repeat(Math.floor(random() * 400)) }),
      },
      ...(method !== 'GET' && { body: typeof sent === 'string' ? sent : JSON.stringify(sent) }),
      signal: AbortSignal.timeout(20_000),
    });
    const text = await response.text();
    statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
    // A run that halts is answered as a gateway would; that is an answer about mail, not a failure of the server.
    const isAnswer =
      where.endsWith('/runs') &&
      [502, 503].includes(response.status) &&
      !text.includes('STORAGE_UNAVAILABLE');
    if (response.status >= 500 && !isAnswer)
      failures.push(`${response.status} ${method} ${where} ${JSON.stringify(sent)?.slice(0, 300)}`);
  };
  for (let done = 0; done < requests; done += 20) await Promise.all(Array.from({ length: 20 }, one));
  expect(failures).toEqual([]);
  expect(statuses.get(422)).toBeGreaterThan(requests / 20);
  expect((await local.client.get('/readyz')).body).toEqual({ status: 'ready' });
});

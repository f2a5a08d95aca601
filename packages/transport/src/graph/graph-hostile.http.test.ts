import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { inspect, promisify } from 'node:util';
import { expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';

// A Graph URL that is not Microsoft's may be anybody's.

const large = {
  ...{ from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' },
  attachments: [{ kind: 'bytes' as const, filename: 'a.bin', content: Buffer.alloc(3_200_000) }],
};

type Answer = (path: string, response: ServerResponse) => void;

const json = (response: ServerResponse, status: number, body: unknown): void => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};

/** A server of which nothing but its answers is Graph's, and what it was asked for. */
async function startServer(answer: Answer) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    request.resume();
    request.once('end', () => {
      asked.push(`${request.method} ${request.url}`);
      answer(request.url ?? '', response);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  return {
    asked,
    connection: (token: string) => ({
      ...{
        kind: 'microsoft365' as const,
        delivery: 'graph' as const,
        tenantId: 'x.org',
        graphBaseUrl: `http://127.0.0.1:${port}`,
      },
      auth: { kind: 'oauth2-refresh' as const, user: 'a@x.org', clientId: 'c', accessToken: token },
    }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Graph up to the upload of an attachment. */
const uploading =
  (upload: (response: ServerResponse) => void): Answer =>
  (path, response) => {
    if (path.endsWith('/messages')) json(response, 201, { id: 'draft' });
    else if (path.includes('createUploadSession'))
      json(response, 201, { uploadUrl: `http://${response.req.headers.host}/upload/1` });
    else if (path.startsWith('/upload')) upload(response);
    else response.writeHead(path.endsWith('/send') ? 202 : 204).end();
  };

it.each<[string, (response: ServerResponse) => void]>([
  ['is said to lack all of it', (response) => json(response, 200, { nextExpectedRanges: ['0-'] })],
  ['is said to go on, though it has ended', (response) => json(response, 200, {})],
  ['has ended', (response) => json(response, 404, { error: { code: 'ErrorItemNotFound' } })],
  ['has ended, and so has the permission', (response) => json(response, 401, {})],
])('does not send a message whose upload %s, and may try again', async (_, upload) => {
  const { asked, ...error } = await failure(uploading(upload));
  expect(error).toMatchObject({ code: 'MESSAGE_DEFERRED', retryable: true, inDoubt: false });
  expect(asked).toContain('DELETE /users/a%40x.org/messages/draft');
  expect(String(asked)).not.toContain('/send');
});

it('no part of what an upload URL allows is repeated', async () => {
  const allows = 'A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0';
  const url = (request: IncomingMessage) => `http://${request.headers.host}/upload/1?authtoken=${allows}`;
  const refusals = [
    allows,
    allows.slice(3, 30),
    Buffer.from(allows).toString('base64'),
    `x?authtoken=${allows}`,
  ];
  for (const said of refusals) {
    const found = await failure((path, response) => {
      if (path.endsWith('/messages')) json(response, 201, { id: 'draft' });
      else if (path.includes('createUploadSession')) json(response, 201, { uploadUrl: url(response.req) });
      else if (path.startsWith('/upload'))
        json(response, 403, { error: { code: `E ${said}`, message: said } });
      else response.writeHead(204).end();
    });
    const { asked: _, ...error } = found;
    expect(error).toMatchObject({ message: expect.stringContaining('***'), inDoubt: false });
    expect(JSON.stringify(error)).not.toContain(said.slice(4, 16));
  }
});

it('a draft is taken away although the mailbox is throttled for a moment', async () => {
  let removals = 0;
  const throttle = (response: ServerResponse) => response.writeHead(429, { 'retry-after': '1' }).end();
  const upload = uploading(throttle);
  const found = await failure((path, response) => {
    const isRemoval = response.req.method === 'DELETE';
    if (isRemoval && removals++ === 0) throttle(response);
    else upload(path, response);
  });
  expect(found).toMatchObject({ code: 'MESSAGE_DEFERRED', retryable: true, inDoubt: false });
  expect(removals).toBe(2);
});

it('a process does not end before it is told what became of its message', async () => {
  let removals = 0;
  await using server = await startServer((path, response) => {
    if (path.endsWith('/messages')) json(response, 201, { id: 'draft' });
    else if (response.req.method !== 'DELETE') json(response, 403, { error: { code: 'ErrorAccessDenied' } });
    else if (removals++ > 0) response.writeHead(204).end();
    else response.writeHead(429, { 'retry-after': '1' }).end();
  });
  const script = `
    import { createSender } from ${JSON.stringify(new URL('../create-sender.ts', import.meta.url).href)};
    await using sender = createSender(${JSON.stringify(server.connection('token'))});
    const attachments = [{ kind: 'bytes', filename: 'a.bin', content: Buffer.alloc(3_200_000) }];
    const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello', attachments };
    await sender.send(message).catch(({ code }) => console.log(code));`;
  const args = ['--conditions=@flowpost/source', '--input-type=module', '-e', script];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect([stdout.trim(), removals]).toEqual(['GRAPH_PERMISSION_MISSING', 2]);
});

it('a draft is taken away later where the mailbox is throttled for longer, and nobody waits for that', async () => {
  let removals = 0;
  await using server = await startServer((path, response) => {
    if (path.endsWith('/messages')) json(response, 201, { id: 'draft' });
    else if (response.req.method !== 'DELETE') json(response, 403, { error: { code: 'ErrorAccessDenied' } });
    else if (removals++ > 0) response.writeHead(204).end();
    else response.writeHead(429, { 'retry-after': '4' }).end();
  });
  await using sender = createSender(server.connection('token'));
  await expect(sender.send(large)).rejects.toMatchObject({ code: 'GRAPH_PERMISSION_MISSING' });
  // It was told before the draft could be taken away.
  expect(removals).toBe(1);
  await expect.poll(() => removals, { timeout: 20_000 }).toBe(2);
});

it('a draft that is gone is taken away once', async () => {
  const begun = performance.now();
  const { asked } = await failure((path, response) => {
    if (path.endsWith('/messages')) json(response, 201, { id: 'draft' });
    else json(response, 404, { error: { code: 'ErrorItemNotFound' } });
  });
  expect(String(asked).match(/DELETE/g)).toHaveLength(1);
  expect(performance.now() - begun).toBeLessThan(1_000);
});

it('a server that speaks no TLS is told from a message in doubt', async () => {
  await using server = await startServer((_, response) => response.writeHead(202).end());
  const { graphBaseUrl, ...connection } = server.connection('token');
  const small = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
  await using sender = createSender({ ...connection, graphBaseUrl: graphBaseUrl.replace('http:', 'https:') });
  await expect(sender.send(small)).rejects.toMatchObject({
    code: 'TLS_WRONG_MODE',
    phase: 'tls',
    inDoubt: false,
  });
  expect(server.asked).toEqual([]);
});

async function failure(answer: Answer, message: object = large): Promise<Record<string, unknown>> {
  await using server = await startServer(answer);
  await using sender = createSender(server.connection('token'));
  return sender.send(message as typeof large).then(
    () => ({ code: 'sent' }),
    (error) => ({ ...error.toJSON(), asked: server.asked }),
  );
}

it.each([
  'http://10.0.0.5:9200/index',
  'https://10.0.0.5/upload',
  'https://office.com.evil.example/upload',
  'file:///etc/passwd',
  'not a URL',
  5,
  undefined,
])('does not send attachments to %s', async (uploadUrl) => {
  const found = await failure((path, response) => {
    if (path.endsWith('/messages')) json(response, 201, { id: 'draft' });
    else if (path.includes('createUploadSession')) json(response, 201, { uploadUrl });
    else response.writeHead(204).end();
  });
  expect(found).toMatchObject({ code: 'PROTOCOL_VIOLATED', phase: 'envelope', inDoubt: false });
  // The draft is taken away again.
  expect(found.asked).toEqual([
    'POST /users/a%40x.org/messages',
    'POST /users/a%40x.org/messages/draft/attachments/createUploadSession',
    'DELETE /users/a%40x.org/messages/draft',
  ]);
});

it.each([
  ['a list', []],
  ['a text', 'x'],
  ['nothing', null],
  ['an id that is none', { id: { toString: 'x' } }],
])('an answer that is %s is no draft', async (_, body) => {
  expect(await failure((_path, response) => json(response, 201, body))).toMatchObject({
    code: 'PROTOCOL_VIOLATED',
    inDoubt: false,
  });
});

it.each([
  { error: { code: 5, message: ['x'] } },
  { error: 'x' },
  { error: { code: 'constructor' } },
  { error: { code: 'x'.repeat(100_000) } },
  [],
])('an error that is %j is a refusal by its status', async (body) => {
  const found = await failure((_, response) => json(response, 400, body), { ...large, attachments: [] });
  expect(found).toMatchObject({ code: 'MESSAGE_REFUSED', details: { status: 400 } });
  expect(JSON.stringify(found).length).toBeLessThan(200_000);
});

it('an answer without end is not read to it', async () => {
  let written = 0;
  const found = await failure((path, response) => {
    if (!path.endsWith('/messages')) return void response.writeHead(204).end();
    response.writeHead(201, { 'content-type': 'application/json' });
    const piece = Buffer.alloc(1_048_576, ' ');
    const more = (): void => {
      while (!response.destroyed && response.write(piece)) written += piece.length;
    };
    response.on('drain', more);
    more();
  });
  expect(found).toMatchObject({ phase: 'envelope', inDoubt: false });
  expect(written).toBeLessThan(50_000_000);
});

it.each([
  ['said that it took it', 202, 'sent'],
  ['failed, so that nobody knows', 500, 'DELIVERY_IN_DOUBT'],
])('a server that has %s holds nobody with the rest of its answer', async (_, status, outcome) => {
  let isClosed = false;
  await using server = await startServer((_path, response) => {
    response.on('close', () => {
      isClosed = true;
    });
    response.writeHead(status).write('and so on');
  });
  await using sender = createSender(server.connection('token'));
  const found = await sender.send({ ...large, attachments: [] }).catch((error) => error);
  expect(found.status ?? found.code).toBe(outcome);
  await expect.poll(() => isClosed, { timeout: 3_000 }).toBe(true);
});

it.each([
  ['large', 302, large],
  ['small', 302, { ...large, attachments: [] }],
  ['small', 307, { ...large, attachments: [] }],
])(
  'a redirect of a %s message (%d), as of a portal one has to log in to, is a failure that may pass',
  async (_, status, sent) => {
    const found = await failure(
      (_, response) => response.writeHead(status, { location: '/login' }).end(),
      sent,
    );
    expect(found).toMatchObject({
      code: 'CONNECTION_LOST',
      phase: 'envelope',
      retryable: true,
      inDoubt: false,
    });
  },
);

it('a token with a line break in it is not sent, and stands in no error', async () => {
  await using server = await startServer((_, response) => response.writeHead(202).end());
  await using sender = createSender(server.connection('SECRET-TO\nKEN-12345'));
  const error = await sender.send({ ...large, attachments: [] }).catch((thrown) => thrown);
  expect(error).toMatchObject({ code: 'TOKEN_RESPONSE_INVALID', phase: 'token', inDoubt: false });
  expect(inspect(error, { depth: 10 })).not.toContain('KEN-12345');
  expect(server.asked).toEqual([]);
});

it.each<[string, number, string]>([
  ['refuses', 403, 'GRAPH_PERMISSION_MISSING'],
  ['takes the message', 202, 'sent'],
])('a server that %s and repeats the token everywhere', async (_, status, code) => {
  const token = 'eyJhbGciOi.SECRETTOKEN.signature';
  await using server = await startServer((_path, response) => {
    response.statusMessage = `OK ${token}`;
    response.writeHead(status, { 'request-id': token, 'content-type': 'application/json' });
    response.end(
      JSON.stringify({ error: { code: `x${'y'.repeat(5_000)}`, message: `bad ${token.slice(0, -1)}` } }),
    );
  });
  await using sender = createSender(server.connection(token));
  const heard: unknown[] = [];
  const small = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
  const found = await sender.send(small, { transcript: (line) => heard.push(line) }).catch((error) => error);
  expect(found.code ?? found.status).toBe(code);
  const shown = inspect([found, JSON.stringify(found), heard], { depth: 9, showHidden: true });
  expect(shown).toContain('***');
  for (const part of ['eyJhb', 'SECRET', 'TOKEN', 'signat']) expect(shown).not.toContain(part);
  expect(JSON.stringify(found).length).toBeLessThan(2_000);
});

it('a sender that is closed has taken its draft away', async () => {
  await using server = await startServer((path, response) => {
    if (path.endsWith('/messages')) json(response, 201, { id: 'draft' });
    else if (path.includes('createUploadSession'))
      json(response, 201, { uploadUrl: `http://${response.req.headers.host}/upload/1` });
    // The upload is never answered.
    else if (!path.startsWith('/upload')) response.writeHead(204).end();
  });
  const sender = createSender(server.connection('token'), { closeDeadlineMs: 200 });
  const sending = sender.send(large).catch((error) => error);
  await expect.poll(() => server.asked.join()).toContain('PUT /upload');
  await sender[Symbol.asyncDispose]();
  expect(server.asked).toContain('DELETE /users/a%40x.org/messages/draft');
  expect((await sending).inDoubt).toBe(false);
});

import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HttpServer, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { put, settings, stateOf } from './testing/deliveries.test-support.ts';
import { type LocalServer, startLocal } from './testing/local-server.test-support.ts';

interface Host {
  readonly local: LocalServer;
  readonly inbox: SmtpInbox;
  /** The inbox refuses everybody until this. */
  openInbox(): void;
  /** What a page says to one request after another, or the status it answers with, 0 for none; the last one for good. */
  pageSays(...answers: (string | number)[]): void;
  readonly page: string;
  /** The requests for it. */
  readonly asked: readonly string[];
}

/** One for all tests, one after another. */
let parts: { readonly inbox: SmtpInbox; readonly web: HttpServer; readonly local: LocalServer };
let isOpen = false;
/** What pages say, each test's own: what an earlier one left in the outbox may still ask for its. */
const answers = new Map<string, (string | number)[]>();

beforeAll(async () => {
  const rcptTo = () => (isOpen ? undefined : { code: 550, text: 'not yet' });
  const inbox = await SmtpInbox.start({ refuse: { rcptTo } });
  const web = await HttpServer.start(({ url = '' }, response) => {
    const next = answers.get(url) ?? [];
    const answer = (next.length > 1 ? next.shift() : next[0]) ?? 404;
    if (typeof answer === 'string') response.end(answer);
    else if (answer > 0) response.writeHead(answer).end();
  });
  const local = await startLocal({ FLOWPOST_ALLOWED_HOSTS: `127.0.0.1:${web.port}` });
  await mkdir(join(local.folder, 'files'), { recursive: true });
  parts = { inbox, web, local };
});
afterAll(async () => {
  for (const one of [parts.local, parts.web, parts.inbox]) await one[Symbol.asyncDispose]();
});

function useHost(): Host {
  const { web } = parts;
  isOpen = false;
  const path = `/${answers.size}/report.pdf`;
  answers.set(path, []);
  const openInbox = (): void => {
    isOpen = true;
  };
  const pageSays = (...next: (string | number)[]): void => {
    answers.set(path, next);
  };
  return { ...parts, openInbox, pageSays, page: web.url(path), asked: web.requests };
}

/** Puts a message into the outbox that is refused, does what happens meanwhile, and has it sent again. */
async function sentLater(
  { local, inbox, openInbox }: Host,
  attachments: readonly object[],
  meanwhile: () => unknown,
) {
  const { status, body } = await put(local, inbox.url, { attachments });
  expect(status).toBe(202);
  const id: string = body.deliveryId;
  await expect.poll(async () => (await stateOf(local, id)).state).toBe('failed');
  await meanwhile();
  expect((await local.client.get(`/v1/deliveries/${id}/message`)).status).toBe(200);
  openInbox();
  await local.client.post(`/v1/deliveries/${id}/retry`);
  await expect.poll(async () => (await stateOf(local, id)).state).toBe('sent');
  return inbox.messages.at(-1)?.attachments;
}

it('what was accepted is sent as it was, though its files and pages are changed or gone', async () => {
  const host = useHost();
  const file = join(host.local.folder, 'files', 'bytes.bin');
  const bytes = Buffer.from([0, 255, 1, 254]);
  await writeFile(file, bytes);
  host.pageSays('%PDF-1.7 report');
  const attachments = [
    { kind: 'url', url: host.page },
    { kind: 'file', path: 'bytes.bin', filename: 'other.dat', contentId: 'one@x' },
    { kind: 'text', content: 'as it is', filename: 'a.txt' },
  ];
  const found = await sentLater(host, attachments, async () => {
    await rm(file);
    host.pageSays(404);
  });
  const [page, other, text] = found ?? [];
  expect(page).toMatchObject({ filename: 'report.pdf', contentType: 'application/pdf' });
  expect(`${page?.content}`).toBe('%PDF-1.7 report');
  expect(other).toMatchObject({ filename: 'other.dat', contentId: 'one@x', content: bytes });
  expect(`${text?.content}`).toBe('as it is');
});

it('a page that cannot be had at the moment is fetched when it is sent', async () => {
  const host = useHost();
  host.pageSays(503, 'a moment later');
  const attachments = [{ kind: 'url', url: host.page }];
  const found = await sentLater(host, attachments, () => host.pageSays('by now'));
  expect(`${found?.[0]?.content}`).toBe('by now');
});

it('what cannot be had at all is refused, and nothing is taken in', async () => {
  const { local, inbox, page } = useHost();
  const before = (await local.client.get('/v1/deliveries')).body.deliveries;
  const refusals = [
    [{ kind: 'file', path: 'nowhere.pdf' }, 'ATTACHMENT_NOT_FOUND'],
    [{ kind: 'file', path: '/etc/passwd' }, 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    [{ kind: 'url', url: page }, 'ATTACHMENT_NOT_FOUND'],
  ] as const;
  for (const [attachment, code] of refusals) {
    const { status, body } = await put(local, inbox.url, { attachments: [attachment] });
    expect([status, body.code, body.deliveryId]).toEqual([422, code, undefined]);
  }
  expect((await local.client.get('/v1/deliveries')).body.deliveries).toEqual(before);
});

it('a page that keeps waiting keeps no other, nor a refusal', async () => {
  const { local, inbox, page, pageSays, asked } = useHost();
  pageSays(0);
  const text = { kind: 'text', content: 'x', filename: 'a.txt' };
  const [hanging, forbidden] = [
    { kind: 'url', url: page },
    { kind: 'url', url: 'http://10.0.0.1/x' },
  ];
  const refused = await put(local, inbox.url, { attachments: [text, hanging, forbidden] });
  expect([refused.status, refused.body.code]).toEqual([422, 'ATTACHMENT_URL_REFUSED']);
  expect(refused.body.details).toMatchObject({ position: 3 });
  const before = asked.length;
  const attachments = [hanging, hanging, { kind: 'file', path: 'nowhere' }];
  const missing = await put(local, inbox.url, { attachments });
  expect(missing.body.details).toMatchObject({ position: 3 });
  const taken = put(local, inbox.url, { attachments: [hanging, hanging] });
  await expect.poll(() => asked.length).toBe(before + 2);
  expect((await taken).status).toBe(202);
});

it('one key at once is one answer, though a page says something only once', async () => {
  const { local, inbox, page, pageSays } = useHost();
  pageSays('once', 404);
  const run = () => {
    const attachments = [{ kind: 'url', url: page }];
    const body = { settings: settings(inbox.url, { async: true, attachments }) };
    return local.client.post('/v1/nodes/send-email/runs', body, { 'idempotency-key': 'one' });
  };
  const answers = await Promise.all([run(), run(), run(), run()]);
  expect(new Set(answers.map(({ status, body }) => `${status} ${body.deliveryId}`)).size).toBe(1);
  expect([answers[0]?.status, (await run()).status]).toEqual([202, 202]);
});

it('what is too large to be kept stays where it is', async () => {
  const host = useHost();
  await using handle = await open(join(host.local.folder, 'files', 'large.bin'), 'w');
  await handle.truncate(26 * 1_048_576);
  const found = await sentLater(host, [{ kind: 'file', path: 'large.bin' }], () =>
    handle.write('changed', 0),
  );
  expect(found?.[0]?.content.subarray(0, 8).toString()).toBe('changed\0');
});

it('a twin that is waited for is one of what was taken in', async () => {
  const { local, inbox, openInbox } = useHost();
  openInbox();
  await writeFile(join(local.folder, 'files', 'a.txt'), 'the same');
  const more = { attachments: [{ kind: 'file', path: 'a.txt' }], duplicateWindowMs: 60_000, subject: 'twin' };
  const first = await put(local, inbox.url, more);
  await expect.poll(async () => (await stateOf(local, first.body.deliveryId)).state).toBe('sent');
  const second = await put(local, inbox.url, { ...more, async: false });
  expect(second.body.outcome.receipt.status).toBe('duplicate');
  expect(inbox.messages.filter(({ subject }) => subject === 'twin')).toHaveLength(1);
});

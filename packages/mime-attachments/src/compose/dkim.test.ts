import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { EmailMessageInput } from '@flowpost/core';
import fc from 'fast-check';
import { dkimVerify } from 'mailauth';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ComposeOptions, composeMessage } from './compose-message.ts';
import { DkimSigner, RelaxedBodyHash } from './dkim.ts';

const pem = (key: { export(options: { type: 'pkcs8'; format: 'pem' }): string | Buffer }): string =>
  String(key.export({ type: 'pkcs8', format: 'pem' }));
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ed25519 = generateKeyPairSync('ed25519');
const records: Record<string, string> = {
  'r1._domainkey.x.org': `v=DKIM1; k=rsa; p=${rsa.publicKey.export({ type: 'spki', format: 'der' }).toString('base64')}`,
  'e1._domainkey.x.org': `v=DKIM1; k=ed25519; p=${ed25519.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('base64')}`,
};
const signers = [
  new DkimSigner({ domain: 'x.org', selector: 'r1', privateKey: pem(rsa.privateKey) }),
  new DkimSigner({ domain: 'x.org', selector: 'e1', privateKey: pem(ed25519.privateKey) }),
];

/** What a verifier we did not write makes of a message, with our DNS records. */
async function verify(raw: Buffer): Promise<string[]> {
  const resolver = async (name: string): Promise<string[][]> => [[records[name] ?? '']];
  const { results } = await dkimVerify(raw, { resolver });
  return results.map(({ status, algo }) => `${algo} ${status.result}`);
}

async function signed(message: Partial<EmailMessageInput>, options: ComposeOptions = {}) {
  const composed = await composeMessage(
    { from: 'Ä <a@x.org>', to: 'b@x.org', subject: 'Grüße', ...message },
    { dkim: signers, ...options },
  );
  const raw = Buffer.isBuffer(composed.body) ? composed.body : await buffer(composed.body);
  expect(raw.length).toBe(composed.sizeBytes);
  for (const line of raw.toString('latin1').split('\r\n')) expect(line.length).toBeLessThanOrEqual(998);
  return raw;
}
const bothPass = ['rsa-sha256 pass', 'ed25519-sha256 pass'];

describe('signed messages', () => {
  it.each<[string, Partial<EmailMessageInput>]>([
    ['empty', {}],
    ['text', { text: 'Hello  there \n\n spaces\t\tand tabs \n\n\n' }],
    ['only white space', { text: ' \n \n\t' }],
    [
      'html with an attachment',
      { html: '<p>ü</p>', attachments: [{ kind: 'bytes', content: Buffer.alloc(100_000) }] },
    ],
    [
      'every header',
      {
        cc: 'c@x.org',
        sender: 's@x.org',
        replyTo: 'r@x.org',
        references: ['<1@x.org>', '<2@x.org>'],
        inReplyTo: '<2@x.org>',
        autoSubmitted: 'auto-generated',
        unsubscribe: { url: 'https://x.org/u', mailto: 'u@x.org' },
        headers: { 'X-Same': ['1', '2'] },
      },
    ],
    ['a local part in UTF-8', { from: 'ü@x.org' }],
    ['a local part that begins with a space of Unicode', { from: '\u00a0a@x.org', to: '\u3000b@x.org' }],
  ])('%s', async (_, message) => {
    expect(await verify(await signed(message))).toEqual(bothPass);
  });

  it('whatever the text', async () => {
    const text = fc.string({
      unit: fc.constantFrom('a', ' ', '\t', '\n', '\r\n', '.', '=', 'ü'),
      maxLength: 400,
    });
    await fc.assert(
      fc.asyncProperty(text, async (one) => {
        expect(await verify(await signed({ text: one }))).toEqual(bothPass);
      }),
      { numRuns: 100 },
    );
  });

  it('a later change, or another From, is found out', async () => {
    const raw = (await signed({ text: 'pay 100' })).toString('latin1');
    const result = (text: string) => verify(Buffer.from(text, 'latin1'));
    expect((await result(raw.replace('pay 100', 'pay 900')))[0]).not.toBe(bothPass[0]);
    expect((await result(raw.replace('To: b@', 'To: e@')))[0]).not.toBe(bothPass[0]);
    expect((await result(`From: e@x.org\r\n${raw}`))[0]).not.toBe(bothPass[0]);
    expect((await result(`Cc: e@x.org\r\n${raw}`))[0]).not.toBe(bothPass[0]);
  });
});

describe('a streamed message', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('is signed too', async () => {
    await writeFile(join(folder, 'large.bin'), Buffer.alloc(3_000_000, 'abc'));
    const attachments = [{ kind: 'file' as const, path: 'large.bin' }];
    const policy = { attachments: { baseFolder: folder, fileRoots: [folder] } };
    expect(await verify(await signed({ text: 'x', attachments }, policy))).toEqual(bothPass);
  });

  it('never ends with a signature for something else', async () => {
    const path = join(folder, 'changing.bin');
    // Whatever its time says.
    const written = async (byte: number): Promise<void> => {
      await writeFile(path, Buffer.alloc(2_000_000, byte));
      await utimes(path, 1_000, 1_000);
    };
    await written(0);
    const composed = await composeMessage(
      { from: 'a@x.org', to: 'b@x.org', attachments: [{ kind: 'file', path }] },
      { dkim: signers, attachments: { fileRoots: [folder] } },
    );
    await written(1);
    await expect(buffer(composed.body as NodeJS.ReadableStream)).rejects.toMatchObject({
      code: 'ATTACHMENT_CHANGED',
    });
  });
});

it('the same message signed again later has the same bytes', async () => {
  const message = { from: 'a@x.org', to: 'b@x.org', text: 'Hi', messageId: '<1@x.org>' };
  const signedAt = (time: string) =>
    composeMessage(
      { ...message, date: '2026-01-01T00:00:00Z' },
      { dkim: signers, now: () => Date.parse(time) },
    );
  const [one, other] = await Promise.all(['2026-01-02', '2026-01-03'].map(signedAt));
  expect(one?.body).toEqual(other?.body);
});

it('the body hash does not depend on how the body is cut', () => {
  const piece = fc.constantFrom('a', 'bc', ' ', '\t ', '\r\n', ' \r\n', 'd e');
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 40 }),
      fc.array(fc.nat(20), { maxLength: 20 }),
      (pieces, cuts) => {
        const body = Buffer.from(pieces.join(''));
        // Section 3.4.4, as it is written.
        const canonical = body
          .toString()
          .replace(/[ \t]+/g, ' ')
          .replace(/ \r\n/g, '\r\n')
          .replace(/ $/, '')
          .replace(/(?:\r\n)+$/, '');
        const expected = createHash('sha256').update(canonical === '' ? '' : `${canonical}\r\n`);
        const hash = new RelaxedBodyHash();
        let at = 0;
        for (const length of [...cuts, body.length]) {
          hash.update(body.subarray(at, at + length));
          at += length;
        }
        expect(hash.digest()).toBe(expected.digest('base64'));
      },
    ),
  );
});

it.each([
  ['nothing', 'nonsense'],
  ['a short key', pem(generateKeyPairSync('rsa', { modulusLength: 512 }).privateKey)],
  ['another kind', pem(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)],
])('%s is refused, and not repeated', (_, privateKey) => {
  const make = () => new DkimSigner({ domain: 'x.org', selector: 's', privateKey });
  expect(make).toThrow(expect.objectContaining({ code: 'DKIM_KEY_INVALID', category: 'configuration' }));
  expect(make).not.toThrow(privateKey.slice(30, 60) || privateKey);
});

it('signing what streams ends with the signal', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  try {
    const path = join(folder, 'large.bin');
    await writeFile(path, Buffer.alloc(30_000_000));
    const attachments = [{ kind: 'file' as const, path }];
    const policy = { attachments: { fileRoots: [folder] } };
    for (const [signal, code] of [
      [AbortSignal.timeout(20), 'SEND_TIMED_OUT'],
      [AbortSignal.abort(), 'SEND_CANCELLED'],
    ] as const) {
      await expect(signed({ attachments }, { ...policy, signal })).rejects.toMatchObject({
        ...{ code, phase: 'attachments' },
      });
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

it.each([
  { domain: 'x.org\r\nBcc: evil@x.org', selector: 's' },
  { domain: 'x.org', selector: 's; x=1' },
  { domain: 'münchen.example', selector: 's' },
])('what is no DNS name signs nothing: %j', (identity) => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  expect(() => new DkimSigner({ ...identity, privateKey: pem })).toThrow(/no DNS name/);
});

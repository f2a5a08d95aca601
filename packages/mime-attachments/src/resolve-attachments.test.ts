import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { AttachmentInput } from '@flowpost/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resolveAttachmentPolicy } from './attachment-policy.ts';
import { openAttachments } from './open-attachments.ts';
import { type ContentAttachment, resolveAttachments } from './resolve-attachments.ts';

const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ', 'base64');

let folder: string;
let allowed: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  allowed = join(folder, 'allowed');
  await mkdir(join(allowed, 'sub'), { recursive: true });
  await chmod(folder, 0o755);
  await writeFile(join(allowed, 'a.txt'), 'hello');
  await writeFile(join(folder, 'outside.txt'), 'secret');
  await symlink(join(folder, 'outside.txt'), join(allowed, 'link.txt'));
  await symlink(join(folder, 'nothing.txt'), join(allowed, 'dangling.txt'));
  await symlink(join(allowed, 'a.txt'), join(allowed, 'inner-link.txt'));
  await symlink(folder, join(allowed, 'away'));
  await symlink(join(folder, 'none'), join(allowed, 'nowhere'));
});
afterAll(() => rm(folder, { recursive: true }));

const resolve = async (attachment: AttachmentInput, maxBytes?: number) => {
  const policy = resolveAttachmentPolicy({
    fileRoots: [allowed],
    baseFolder: allowed,
    ...(maxBytes && { maxBytes }),
  });
  const before: AttachmentInput = { kind: 'text', content: 'first' };
  return (await resolveAttachments([before, attachment], policy))[1];
};

/** Ends as soon as something else has had its turn. */
function soon(): AbortSignal {
  const ending = new AbortController();
  setTimeout(() => ending.abort(), 5);
  return ending.signal;
}

describe('files', () => {
  it.each(['a.txt', 'sub/../a.txt', 'inner-link.txt'])(
    '%s is read, under the name it was given',
    async (path) => {
      expect(await resolve({ kind: 'file', path })).toMatchObject({
        filename: basename(path),
        contentType: 'text/plain',
        content: Buffer.from('hello'),
      });
    },
  );

  it.each([
    ['missing.txt', 'ATTACHMENT_NOT_FOUND'],
    ['a.txt/b', 'ATTACHMENT_NOT_FOUND'],
    ['sub', 'ATTACHMENT_NOT_A_FILE'],
    ['.', 'ATTACHMENT_NOT_A_FILE'],
    ['../outside.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['../missing.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['/etc/passwd', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['link.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['dangling.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['away/outside.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['away/missing.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['away/none/missing.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['nowhere/missing.txt', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['sub/none/missing.txt', 'ATTACHMENT_NOT_FOUND'],
    ['a\0.txt', 'ATTACHMENT_INVALID'],
  ])('%s: %s, named by position and name', async (path, code) => {
    await expect(resolve({ kind: 'file', path })).rejects.toMatchObject({
      code,
      category: 'attachment',
      phase: 'attachments',
      retryable: false,
      details: { position: 2, name: path },
      message: expect.stringContaining('Attachment 2'),
    });
  });

  it.skipIf(process.platform !== 'linux')(
    'a file that is made as it is read has no size to go by',
    async () => {
      const policy = resolveAttachmentPolicy({ fileRoots: ['/proc'] });
      const read = async () => resolveAttachments([{ kind: 'file', path: '/proc/version' }], policy);
      await expect(read()).rejects.toMatchObject({
        code: 'ATTACHMENT_NOT_A_FILE',
        message: expect.stringContaining('how large'),
      });
    },
  );

  it('many are read a few at a time, and no more than a message may have', async () => {
    const many = Array.from({ length: 2_000 }, () => ({ kind: 'file' as const, path: 'a.txt' }));
    const own = { fileRoots: [allowed], baseFolder: allowed };
    const read = async (maxTotalBytes: number) =>
      resolveAttachments(many, resolveAttachmentPolicy({ ...own, maxTotalBytes }));
    expect(await read(10_000)).toHaveLength(2_000);
    await expect(read(9_999)).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
      details: { sizeBytes: 10_000, limitBytes: 9_999, position: expect.any(Number) },
    });
  });

  it.each([
    ['the time', () => AbortSignal.timeout(0), 'SEND_TIMED_OUT', true],
    ['the caller', () => AbortSignal.abort(), 'SEND_CANCELLED', false],
    ['the caller, in the middle', soon, 'SEND_CANCELLED', false],
  ] as const)('many are read until %s ends it, which is told as that', async (_, end, code, retryable) => {
    const many = Array.from({ length: 2_000 }, () => ({ kind: 'file' as const, path: 'a.txt' }));
    const own = resolveAttachmentPolicy({ fileRoots: [allowed], baseFolder: allowed });
    const reading = async () => resolveAttachments(many, own, { signal: end() });
    await expect(reading()).rejects.toMatchObject({ code, retryable, phase: 'attachments' });
  });

  it('an allowed folder that is not there has no file', async () => {
    const missing = join(folder, 'unmounted');
    const own = resolveAttachmentPolicy({ fileRoots: [missing], baseFolder: missing });
    for (const path of ['a.txt', 'b/a.txt'])
      await expect((async () => resolveAttachments([{ kind: 'file', path }], own))()).rejects.toMatchObject({
        code: 'ATTACHMENT_NOT_FOUND',
      });
  });

  it('a folder that is replaced by a link again and again never leads outside', async () => {
    const [inner, elsewhere] = [join(allowed, 'inner'), join(folder, 'elsewhere')];
    for (const one of [inner, elsewhere]) await mkdir(one);
    await writeFile(join(inner, 'a.txt'), 'hello');
    await writeFile(join(elsewhere, 'a.txt'), 'secret');
    await symlink(elsewhere, join(allowed, 'way'));
    const swap = `const { renameSync } = require('node:fs'); for (;;) {
      renameSync('inner', 'kept'); renameSync('way', 'inner'); renameSync('inner', 'way'); renameSync('kept', 'inner'); }`;
    const swapping = spawn(process.execPath, ['-e', swap], { cwd: allowed, stdio: 'ignore' });
    try {
      const found = new Map<string, number>();
      for (let count = 0; count < 3_000; count++) {
        const one = await resolve({ kind: 'file', path: 'inner/a.txt' }).then(
          (attachment) => String((attachment as ContentAttachment).content),
          ({ code }) => code,
        );
        found.set(one, (found.get(one) ?? 0) + 1);
      }
      expect(found.get('hello')).toBeGreaterThan(0);
      expect(found.size).toBeGreaterThan(1);
      expect(found.get('secret') ?? 0).toBe(0);
    } finally {
      swapping.kill();
      await once(swapping, 'exit');
    }
  });

  it('a FIFO is refused at once', async () => {
    execFileSync('mkfifo', [join(allowed, 'fifo')]);
    await expect(resolve({ kind: 'file', path: 'fifo' })).rejects.toMatchObject({
      code: 'ATTACHMENT_NOT_A_FILE',
    });
  });

  it('a file that may not be read is told apart', async () => {
    await writeFile(join(allowed, 'private.txt'), 'x');
    await chmod(join(allowed, 'private.txt'), 0);
    // The superuser may read everything, so the test gives that up for a moment.
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(65_534);
    try {
      await expect(resolve({ kind: 'file', path: 'private.txt' })).rejects.toMatchObject({
        code: 'ATTACHMENT_ACCESS_DENIED',
        details: { position: 2, name: 'private.txt' },
      });
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });
});

describe('base64', () => {
  it.each([
    ['aGk=', 'hi'],
    ['aGk', 'hi'],
    [' aG\r\nk= ', 'hi'],
    ['_-8', '\xff\xef'],
    ['', ''],
  ])('%j is read', async (content, expected) => {
    expect(await resolve({ kind: 'base64', content })).toMatchObject({
      content: Buffer.from(expected, 'latin1'),
    });
  });

  it('a long one is decoded piece by piece, wherever its white space cuts the groups', async () => {
    const content = randomBytes(2_500_001);
    for (const width of [76, 61, 1_000_003]) {
      const digits = content.toString('base64');
      const lines = Array.from({ length: Math.ceil(digits.length / width) }, (_, index) =>
        digits.slice(index * width, (index + 1) * width),
      );
      const text = lines.join('\r\n');
      const found = (await resolve({ kind: 'base64', content: text })) as ContentAttachment;
      if (Buffer.isBuffer(found.content)) throw new Error('it should stream');
      expect(found.content.size).toBe(content.length);
      expect(Buffer.concat(await Array.fromAsync(found.content.open())).equals(content)).toBe(true);
    }
  });

  it('a long one is refused at its first bad character', async () => {
    const good = 'QUJD'.repeat(800_000);
    await expect(resolve({ kind: 'base64', content: `${good}*${good}` })).rejects.toMatchObject({
      code: 'ATTACHMENT_INVALID',
      details: { character: good.length + 1 },
    });
    await expect(resolve({ kind: 'base64', content: `${good}QQ==${good}` })).rejects.toMatchObject({
      details: { character: good.length + 3 },
    });
  });

  it.each([
    'QUJD\u0141AAA',
    'QUJD\u202fQUJD',
    'QUJD\u205fQUJD',
    'QUJD\u00a0QUJD',
    '\u{1f600}AA',
    'a',
    'aGk!',
    'aG=k',
    'aGk==',
    'data:text/plain;base64,aGk=',
    'aGk=aGk=',
  ])('%j is refused', async (content) => {
    await expect(resolve({ kind: 'base64', content })).rejects.toMatchObject({
      code: 'ATTACHMENT_INVALID',
    });
  });
});

it.each<AttachmentInput>([
  { kind: 'text', content: '123456' },
  { kind: 'base64', content: 'MTIzNDU2' },
  { kind: 'bytes', content: new Uint8Array(6) },
  { kind: 'file', path: 'a.txt' },
])('the size limit holds for $kind', async (attachment) => {
  const limit = attachment.kind === 'file' ? 4 : 5;
  await expect(resolve(attachment, limit)).rejects.toMatchObject({
    code: 'ATTACHMENT_TOO_LARGE',
    details: { limitBytes: limit },
  });
});

it.each([
  [{ kind: 'text', content: 'x' }, 'text/plain; charset=utf-8'],
  [{ kind: 'text', content: 'x', filename: 'a.html' }, 'text/html; charset=utf-8'],
  [{ kind: 'text', content: 'x', contentType: 'text/x; charset=us-ascii' }, 'text/x; charset=us-ascii'],
  [{ kind: 'bytes', content: new Uint8Array(1), filename: 'a.PDF' }, 'application/pdf'],
  [{ kind: 'bytes', content: new Uint8Array(1) }, 'application/octet-stream'],
  [{ kind: 'custom', content: 'x', contentType: 'text/calendar' }, 'text/calendar; charset=utf-8'],
  [{ kind: 'bytes', content: png }, 'image/png'],
  [{ kind: 'bytes', content: png, filename: 'a.unknown-extension' }, 'image/png'],
  [{ kind: 'bytes', content: png, filename: 'a.pdf' }, 'application/pdf'],
  [{ kind: 'bytes', content: png, contentType: 'x/y' }, 'x/y'],
  [{ kind: 'base64', content: Buffer.from('%PDF-1.7\n').toString('base64') }, 'application/pdf'],
  [{ kind: 'url', url: 'data:,hi' }, 'text/plain'],
  [{ kind: 'url', url: 'data:image/gif;base64,R0lGODlh', filename: 'a.txt' }, 'image/gif'],
  [{ kind: 'url', url: 'data:;charset=utf-8,hi' }, 'text/plain; charset=utf-8'],
  [{ kind: 'url', url: 'data:application/pdf;filename="a;b.pdf";base64,aGk=' }, 'application/pdf'],
] as const)('%j has the type %s', async (attachment, contentType) => {
  expect(await resolve(attachment)).toMatchObject({ contentType });
});

it.each([
  [{ kind: 'bytes', content: png }, 'attachment.png'],
  [{ kind: 'bytes', content: new Uint8Array(1) }, 'attachment.bin'],
  [{ kind: 'base64', content: 'eA==', contentType: 'application/pdf' }, 'attachment.pdf'],
  [{ kind: 'custom', content: '{}', contentType: 'application/json' }, 'attachment.json'],
  [{ kind: 'bytes', content: png, contentType: 'x/y' }, 'attachment.bin'],
  [{ kind: 'text', content: 'x' }, 'attachment.txt'],
] as const)('%j is called %s', async (attachment, filename) => {
  expect(await resolve(attachment)).toMatchObject({ filename });
});

describe('data URLs', () => {
  it.each([
    ['data:,a%20b%C3%BC', 'a b\u00fc', undefined],
    ['data:text/plain;base64,aGk=', 'hi', undefined],
    ['data:text/plain;base64,aGk%3D', 'hi', undefined],
    ['DATA:text/csv;name=list.csv;BASE64,aGk', 'hi', 'list.csv'],
    ['data:text/csv;filename="a%20b.csv",x', 'x', 'a b.csv'],
    ['data:text/plain,100%', '100%', undefined],
    ['data:application/pdf;filename="a;b, c.pdf";base64,aGk=', 'hi', 'a;b, c.pdf'],
    ["data:text/plain;name*=utf-8''%C3%A4.txt,x", 'x', 'ä.txt'],
    ["data:text/plain;name=a.txt;name*=UTF-8'de'%C3%A4.txt,x", 'x', 'ä.txt'],
    ['data:application/json;base64,e30=#frag', '{}', undefined],
    ['data:image/svg+xml,<a b="#c,d"/>', '<a b="#c,d"/>', undefined],
    ['data:text/plain;a="b,c', 'c', undefined],
  ])('%s', async (url, expected, filename) => {
    expect(await resolve({ kind: 'url', url })).toMatchObject({
      content: Buffer.from(expected),
      ...(filename && { filename }),
    });
  });

  it.each(['data:text/plain', 'data:text/plain;base64,a*b', 'data:;base64,aGk=x'])(
    '%s is refused',
    async (url) => {
      await expect(resolve({ kind: 'url', url })).rejects.toMatchObject({
        code: 'ATTACHMENT_INVALID',
        details: { position: 2, name: 'data URL' },
      });
    },
  );

  it('a line break in a name from a data URL is refused', async () => {
    await expect(resolve({ kind: 'url', url: 'data:;name=a%0d%0ab,x' })).rejects.toMatchObject({
      code: 'HEADER_INVALID',
    });
  });
});

it('reading what is open ends when the caller gives up', async () => {
  const path = join(folder, 'large.bin');
  await writeFile(path, Buffer.alloc(12 * 1_048_576));
  const stop = new AbortController();
  using opened = await openAttachments([{ kind: 'file', path }], {
    attachments: { fileRoots: [folder] },
    signal: stop.signal,
  });
  const [one] = opened.attachments;
  let read = 0;
  const reading = (async () => {
    for await (const chunk of one?.read() ?? []) {
      read += chunk.length;
      stop.abort();
    }
  })();
  await expect(reading).rejects.toMatchObject({ code: 'SEND_CANCELLED', phase: 'attachments' });
  expect(read).toBeLessThan(12 * 1_048_576);
});

it.each([
  ' https://files.invalid/f.pdf?sig=C4N4RY',
  '<https://u:C4N4RY@files.invalid/f.pdf>',
  'ftp://u:C4N4RY@files.invalid/f.pdf',
  '//u:C4N4RY@files.invalid/f.pdf',
  'report.pdf, https://u:C4N4RY@files.invalid/x?sig=C4N4RY',
  '(https://u:C4N4RY@files.invalid/x',
  `data:application/pdf;base64,C4N4RY${'A'.repeat(1_000)}`,
])('a path that is a URL is not repeated: %s', async (path) => {
  const opening = openAttachments([{ kind: 'file', path }], { attachments: { fileRoots: [folder] } });
  const error = await opening.catch((thrown) => thrown);
  expect(error).toMatchObject({ category: 'attachment' });
  expect(JSON.stringify([error, error.message])).not.toContain('C4N4RY');
});

it.each(['//srv/share/q3.pdf', 'Invoice:2024.pdf', 'what?.pdf', 'C:\\\\x.pdf', 'a@b.pdf'])(
  'a path is named: %s',
  async (path) => {
    const opening = openAttachments([{ kind: 'file', path }], { attachments: { fileRoots: [folder] } });
    expect((await opening.catch((thrown) => thrown)).message).toContain(path);
  },
);

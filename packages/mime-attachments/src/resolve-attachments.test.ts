import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { AttachmentInput } from '@flowpost/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resolveAttachmentPolicy } from './attachment-policy.ts';
import { resolveAttachments } from './resolve-attachments.ts';

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

  it.each(['a', 'aGk!', 'aG=k', 'aGk==', 'data:text/plain;base64,aGk=', 'aGk=aGk='])(
    '%j is refused',
    async (content) => {
      await expect(resolve({ kind: 'base64', content })).rejects.toMatchObject({
        code: 'ATTACHMENT_INVALID',
      });
    },
  );
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

it.each<AttachmentInput>([
  { kind: 'url', url: 'https://x.org/a.pdf' },
  { kind: 'mime', raw: 'Content-Type: text/plain\r\n\r\nx' },
])('$kind is refused by name, not dropped', async (attachment) => {
  await expect(resolve(attachment)).rejects.toMatchObject({
    code: 'ATTACHMENT_KIND_UNAVAILABLE',
    details: { kind: attachment.kind, position: 2 },
  });
});

it.each([
  [{ kind: 'text', content: 'x' }, 'text/plain; charset=utf-8'],
  [{ kind: 'text', content: 'x', filename: 'a.html' }, 'text/html; charset=utf-8'],
  [{ kind: 'text', content: 'x', contentType: 'text/x; charset=us-ascii' }, 'text/x; charset=us-ascii'],
  [{ kind: 'bytes', content: new Uint8Array(1), filename: 'a.PDF' }, 'application/pdf'],
  [{ kind: 'bytes', content: new Uint8Array(1) }, 'application/octet-stream'],
  [{ kind: 'custom', content: 'x', contentType: 'text/calendar' }, 'text/calendar; charset=utf-8'],
] as const)('%j has the type %s', async (attachment, contentType) => {
  expect(await resolve(attachment)).toMatchObject({ contentType });
});

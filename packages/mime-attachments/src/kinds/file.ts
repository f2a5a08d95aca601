import { constants, type FileHandle, lstat, open, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, relative, resolve, sep } from 'node:path';
import { type AttachmentOf, isError } from '@flowpost/core';
import {
  type AttachmentContext,
  type AttachmentSource,
  attachmentError,
  checkSize,
  type StreamedContent,
} from '../attachment-source.ts';
import { readChunks } from '../read-chunks.ts';

/** Smaller files are read at once; larger ones stream, so that memory stays flat. */
const inMemoryLimit = 1024 * 1024;

function isInside(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way === '' || !(way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way));
}

function fileError(cause: unknown, context: AttachmentContext): Error {
  const reason = (cause as NodeJS.ErrnoException).code;
  if (reason === 'ENOENT' || reason === 'ENOTDIR') {
    return attachmentError('ATTACHMENT_NOT_FOUND', 'there is no such file.', context, { cause });
  }
  if (reason === 'ELOOP')
    return attachmentError('ATTACHMENT_CHANGED', 'it was replaced by a link.', context, { cause });
  if (reason === 'EACCES' || reason === 'EPERM') {
    return attachmentError('ATTACHMENT_ACCESS_DENIED', 'it may not be read.', context, { cause });
  }
  return attachmentError('ATTACHMENT_UNREADABLE', `reading it failed (${reason}).`, context, {
    details: { reason },
    // Too many open files are fewer in a moment.
    retryable: reason === 'EMFILE' || reason === 'ENFILE',
    cause,
  });
}

interface AllowedFile {
  /** The real path, symbolic links resolved. */
  readonly real: string;
  /** Whether a real path lies in an allowed folder. */
  isAllowed(path: string): boolean;
}

const isLink = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => undefined))?.isSymbolicLink() === true;

/** Whether as much of a path as there is leads into an allowed folder. */
async function endsWhereAllowed(path: string, isAllowed: AllowedFile['isAllowed']): Promise<boolean> {
  for (let way = path; ; way = dirname(way)) {
    const real = await realpath(way).catch(() => undefined);
    if (real !== undefined) return isAllowed(real);
    if ((await isLink(way)) || way === dirname(way)) return false;
    // An allowed folder that is not there.
    if (isAllowed(way) && !isAllowed(dirname(way))) return true;
  }
}

/** A file, once it is known to lie in an allowed folder. */
async function allowedFile(path: string, context: AttachmentContext): Promise<AllowedFile> {
  const { baseFolder, fileRoots } = context.policy;
  const outside = () =>
    attachmentError('ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS', 'it lies outside the allowed folders.', context);
  const named = resolve(baseFolder, path);
  // Asked before the file system is, so that nobody learns which files exist elsewhere.
  const roots = await Promise.all(
    fileRoots.map(async (root) => [resolve(root), await realpath(root).catch(() => resolve(root))] as const),
  );
  if (!roots.flat().some((root) => isInside(root, named))) throw outside();
  const isAllowed = (one: string): boolean => roots.some(([, root]) => isInside(root, one));
  const real = await realpath(named).catch(async (error) => {
    // What a shell passes as /dev/fd/63 has no path of its own.
    const isPipe = (await isLink(named)) && (await stat(named).catch(() => undefined))?.isFile() === false;
    if (isPipe) throw attachmentError('ATTACHMENT_NOT_A_FILE', 'it is not a regular file.', context);
    // A link that leads elsewhere, or nowhere: what exists there is nobody's business here.
    if (!(await endsWhereAllowed(named, isAllowed))) throw outside();
    throw error;
  });
  if (!isAllowed(real)) throw outside();
  return { real, isAllowed };
}

/** Whether what was opened is where it was looked for: a folder on the way may have been replaced by a link meanwhile. */
async function liesWhereAllowed(handle: FileHandle, { real, isAllowed }: AllowedFile): Promise<boolean> {
  // Linux knows where an open file lies, whatever has happened to its path.
  const opened = await readlink(`/proc/self/fd/${handle.fd}`).catch(() => undefined);
  if (opened !== undefined) return isAllowed(opened);
  const [now, there, own] = await Promise.all([realpath(real), stat(real), handle.stat()]);
  return now === real && there.dev === own.dev && there.ino === own.ino;
}

async function openFile(path: string): Promise<FileHandle> {
  // O_NONBLOCK: opening a FIFO must not wait for somebody to write to it. O_NOFOLLOW: the path is a real one, so a link
  // there was put in its place meanwhile.
  return open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0));
}

/** A file inside the allowed folders: a regular one, within the size limit, unchanged while it is read. */
export async function readFile(
  { path }: AttachmentOf<'file'>,
  context: AttachmentContext,
): Promise<AttachmentSource> {
  try {
    if (path.includes('\0')) throw attachmentError('ATTACHMENT_INVALID', 'its path contains a NUL.', context);
    const file = await allowedFile(path, context);
    await using handle = await openFile(file.real);
    if (!(await liesWhereAllowed(handle, file)))
      throw attachmentError('ATTACHMENT_CHANGED', 'a folder it lies in was replaced.', context);
    const before = await handle.stat();
    if (!before.isFile()) {
      const what = before.isDirectory() ? 'it is a folder' : 'it is not a regular file';
      throw attachmentError('ATTACHMENT_NOT_A_FILE', `${what}.`, context);
    }
    const { size } = before;
    checkSize(size, context);
    // Some are made as they are read, such as those in /proc, and say that they have nothing.
    if (size === 0 && (await handle.read(Buffer.alloc(1), 0, 1, 0)).bytesRead > 0)
      throw attachmentError('ATTACHMENT_NOT_A_FILE', 'it does not say how large it is.', context);
    const changed = () =>
      attachmentError('ATTACHMENT_CHANGED', 'it changed while it was being read.', context);
    const filename = basename(path);
    const assertSame = async (from: FileHandle): Promise<void> => {
      const now = await from.stat();
      const isSame = (['dev', 'ino', 'size', 'mtimeMs'] as const).every((key) => now[key] === before[key]);
      if (!isSame) throw changed();
    };

    async function* readAll(from: FileHandle): AsyncGenerator<Buffer> {
      await assertSame(from);
      yield* readChunks(from, size);
      await assertSame(from);
    }
    if (size <= inMemoryLimit) {
      const content = Buffer.concat(await Array.fromAsync(readAll(handle)));
      if (content.length !== size) throw changed();
      return { content, filename };
    }
    const content: StreamedContent = {
      size,
      async *open() {
        try {
          await using again = await openFile(file.real);
          yield* readAll(again);
        } catch (error) {
          throw isError(error) && 'syscall' in error ? fileError(error, context) : error;
        }
      },
    };
    return { content, filename };
  } catch (error) {
    throw isError(error) && 'syscall' in error ? fileError(error, context) : error;
  }
}

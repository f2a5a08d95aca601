import { randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { StreamedContent } from '../attachment-source.ts';
import { readChunks } from '../read-chunks.ts';

/** Up to here a download stays in memory. */
export const inMemoryLimit = 1024 * 1024;

/** A file nobody else can open, gone with its handle. */
async function openUnnamed(folder: string): Promise<FileHandle> {
  const path = join(folder, `flowpost-${randomUUID()}`);
  const handle = await open(path, 'wx+', 0o600);
  try {
    await unlink(path);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

/**
 * Takes in a stream to its end: a small one in memory, a large one in a file. Only when all of it is here are its size
 * known and its failures out, so that nothing has been sent by then, and it can be read again for another attempt.
 *
 * @param check called with the bytes so far, before more are taken; throws to stop.
 */
export async function spool(
  chunks: AsyncIterable<Uint8Array>,
  folder: string,
  check: (sizeBytes: number) => void,
): Promise<Buffer | StreamedContent> {
  const held: Uint8Array[] = [];
  let size = 0;
  let file: FileHandle | undefined;
  try {
    for await (const chunk of chunks) {
      check(size + chunk.length);
      if (file === undefined && size + chunk.length > inMemoryLimit) {
        file = await openUnnamed(folder);
        await writeAll(file, Buffer.concat(held.splice(0)), 0);
      }
      if (file === undefined) held.push(chunk);
      else await writeAll(file, chunk, size);
      size += chunk.length;
    }
  } catch (error) {
    await file?.close();
    throw error;
  }
  if (file === undefined) return Buffer.concat(held, size);
  const kept = file;
  return { size, open: () => readChunks(kept, size), release: () => kept.close() };
}

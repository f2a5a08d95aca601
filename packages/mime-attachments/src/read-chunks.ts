import type { FileHandle } from 'node:fs/promises';

const readSize = 192 * 1024;

/** The first `size` bytes of a file in chunks; fewer when it ends before. */
export async function* readChunks(handle: FileHandle, size: number): AsyncGenerator<Buffer> {
  for (let read = 0; read < size; ) {
    const { bytesRead, buffer } = await handle.read(
      Buffer.allocUnsafe(Math.min(readSize, size - read)),
      0,
      null,
      read,
    );
    if (bytesRead === 0) return;
    read += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

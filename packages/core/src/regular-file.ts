import { constants, open } from 'node:fs/promises';

/** Why a file was not read: it is none, or too large. */
export class NoSuitableFile extends Error {
  readonly code: 'ENOTSUP' | 'EFBIG';
  readonly sizeBytes: number;

  constructor(code: 'ENOTSUP' | 'EFBIG', sizeBytes: number) {
    super(code === 'EFBIG' ? 'the file is too large' : 'this is no regular file');
    this.code = code;
    this.sizeBytes = sizeBytes;
  }
}

/**
 * Reads a file whole, when it is a regular one and not too large: a device or a pipe would never end.
 *
 * @param maxBytes as many as it may have.
 * @throws NoSuitableFile; what the system says when it cannot be opened or read.
 */
export async function readRegularFile(path: string, maxBytes: number): Promise<Buffer> {
  await using handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  const stats = await handle.stat();
  if (!stats.isFile()) throw new NoSuitableFile('ENOTSUP', stats.size);
  if (stats.size > maxBytes) throw new NoSuitableFile('EFBIG', stats.size);
  return await handle.readFile();
}

import { hash, pbkdf2 } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';

const pbkdf2Async = promisify(pbkdf2);

/** How long the derivation below may keep the event loop to itself. */
const sliceMs = 20;

const blockSizes: Readonly<Record<string, number>> = {
  sha1: 64,
  sha224: 64,
  sha256: 64,
  sha384: 128,
  sha512: 128,
};

/** Repeats a text until it fills whole blocks (RFC 7292 appendix B.2, steps 2 and 3). */
function fill(bytes: Buffer, block: number): Buffer {
  if (bytes.length === 0) return bytes;
  const filled = Buffer.alloc(Math.ceil(bytes.length / block) * block);
  for (let at = 0; at < filled.length; at += bytes.length) bytes.copy(filled, at);
  return filled;
}

/** I = I + B + 1, block by block, as numbers of the block's size (step 6C). */
function addToBlocks(input: Buffer, addend: Buffer): void {
  for (let start = 0; start < input.length; start += addend.length) {
    let carry = 1;
    for (let at = addend.length - 1; at >= 0; at--) {
      carry += (input[start + at] as number) + (addend[at] as number);
      input[start + at] = carry & 0xff;
      carry >>= 8;
    }
  }
}

/** A password as PKCS#12 wants it: UTF-16BE with a final NUL. */
export function bmpPassword(password: string): Buffer {
  return Buffer.from(`${password}\0`, 'utf16le').swap16();
}

/**
 * The key derivation of PKCS#12 (RFC 7292 appendix B). Written here because Node has none and node-forge's blocks the
 * event loop for ten seconds at 600,000 iterations; this one lets others run in between.
 *
 * @param purpose 1 for a key, 2 for an initialization vector, 3 for a MAC key.
 */
export async function derivePkcs12(
  algorithm: string,
  password: Buffer,
  salt: Buffer,
  iterations: number,
  purpose: 1 | 2 | 3,
  size: number,
): Promise<Buffer> {
  const block = blockSizes[algorithm] ?? 64;
  const diversifier = Buffer.alloc(block, purpose);
  const input = Buffer.concat([fill(salt, block), fill(password, block)]);
  const result: Buffer[] = [];
  let have = 0;
  let sliceEnd = performance.now() + sliceMs;
  while (have < size) {
    let digest = hash(algorithm, Buffer.concat([diversifier, input]), 'buffer');
    for (let round = 1; round < iterations; round++) {
      digest = hash(algorithm, digest, 'buffer');
      if ((round & 1023) === 0 && performance.now() > sliceEnd) {
        await nextTurn();
        sliceEnd = performance.now() + sliceMs;
      }
    }
    result.push(digest);
    have += digest.length;
    if (have < size) addToBlocks(input, fill(digest, block).subarray(0, block));
  }
  return Buffer.concat(result).subarray(0, size);
}

/** PBKDF2 (RFC 8018), on a thread of Node's own. */
export function derivePbkdf2(
  algorithm: string,
  password: Buffer,
  salt: Buffer,
  iterations: number,
  size: number,
): Promise<Buffer> {
  return pbkdf2Async(password, salt, iterations, size, algorithm);
}

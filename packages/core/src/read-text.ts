/**
 * Reads what somebody else sends, up to a limit, whatever its Content-Length says.
 *
 * @param maxBytes as many as are read.
 * @returns the text (UTF-8).
 * @throws Error with code `RESPONSE_TOO_LARGE`; what the body throws.
 */
export async function readText(body: AsyncIterable<Uint8Array> | null, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.length;
    if (size > maxBytes) throw Object.assign(new Error('response too large'), { code: 'RESPONSE_TOO_LARGE' });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

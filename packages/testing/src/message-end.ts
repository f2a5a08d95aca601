const lastLine = Buffer.from('\r\n.\r\n');
const emptyMessage = Buffer.from('.\r\n');

/**
 * Where the message that these bytes begin with ends, its final dot included (RFC 5321 section 4.1.1.4); undefined as
 * long as it goes on. Commands may follow it (RFC 2920 section 3.1).
 *
 * @param from where to look from: what is before was looked at already.
 */
export function messageEnd(bytes: Buffer, from = 0): number | undefined {
  if (bytes.subarray(0, emptyMessage.length).equals(emptyMessage)) return emptyMessage.length;
  const at = bytes.indexOf(lastLine, Math.max(0, from - lastLine.length + 1));
  return at < 0 ? undefined : at + lastLine.length;
}

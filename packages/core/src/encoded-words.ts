/** Encoded words (RFC 2047 section 6.2) as what they stand for; one that cannot be read stays what it is. */
export function decodeWords(text: string): string {
  if (!text.includes('=?')) return text;
  const word = /=\?([\w:.+-]{1,40})(?:\*[\w-]*)?\?([bq])\?([^? ]*)\?=/gi;
  return text.replace(/(\?=) +(?==\?)/g, '$1').replace(word, (whole, charset, encoding, content) => {
    const bytes = /b/i.test(encoding)
      ? Buffer.from(content, 'base64')
      : Buffer.from(
          content
            .replaceAll('_', ' ')
            .replace(/=([0-9a-f]{2})/gi, (_: string, hex: string) =>
              String.fromCharCode(Number.parseInt(hex, 16)),
            ),
          'latin1',
        );
    try {
      return new TextDecoder(charset, { fatal: true }).decode(bytes);
    } catch {
      return whole;
    }
  });
}

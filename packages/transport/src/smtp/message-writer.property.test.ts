import { Readable } from 'node:stream';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { MessageWriter } from './message-writer.ts';
import type { SmtpChannel } from './smtp-channel.ts';

/** What a writer writes of a body. */
async function written(body: Buffer | Readable): Promise<string> {
  const out: Buffer[] = [];
  const channel = {
    ...{ hasUnread: false, progress: { written: 0 }, assertOpen() {} },
    write: (...pieces: Buffer[]) => out.push(...pieces) > 0,
    stopping: (_: unknown, work: () => Promise<void>) => work(),
  } as unknown as SmtpChannel;
  await new MessageWriter(channel, 1_000).write(body);
  return Buffer.concat(out).toString('latin1');
}

/** RFC 5321 section 4.5.2, over the whole text at once. */
function stuffed(text: string): string {
  const lines = `\r\n${text}`.replace(/\r\n\./g, '\r\n..');
  return `${lines.slice(2)}${lines.endsWith('\r\n') ? '' : '\r\n'}.\r\n`;
}

it('a dot at the beginning of a line is doubled, and no other, wherever a piece of the message ends', async () => {
  const part = fc.constantFrom('.', 'a', '\r\n', '\r\n.', '\r', '\n', 'a'.repeat(65_533));
  await fc.assert(
    fc.asyncProperty(fc.array(part, { maxLength: 8 }), fc.nat(), async (parts, seed) => {
      const text = parts.join('');
      const at = seed % (text.length + 1);
      const pieces = [text.slice(0, at), text.slice(at)].filter((one) => one !== '');
      // Not shown: it may be half a megabyte.
      for (const body of [Buffer.from(text), Readable.from(pieces.map((one) => Buffer.from(one)))])
        expect((await written(body)) === stuffed(text)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

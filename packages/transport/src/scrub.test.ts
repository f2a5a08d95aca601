import { randomBytes } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import { formsOf, secretScrubber } from './scrub.ts';

const secret = 'Sup3r/Secret+Passw0rd!';
const scrub = secretScrubber(formsOf(secret));
const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64');

/** No four characters of it in a row, in any form a person could read it from. */
function expectNothing(shown: string): void {
  const read = [shown, decodeURIComponent(shown.replace(/%(?![0-9a-f]{2})/gi, ''))];
  for (const word of shown.match(/[\w+/=]{4,}/g) ?? [])
    for (const skip of [0, 1, 2, 3]) {
      read.push(Buffer.from(word.slice(skip), 'base64').toString('latin1'));
      if (skip < 2) read.push(Buffer.from(word.slice(skip), 'hex').toString('latin1'));
    }
  for (let at = 0; at + 4 <= secret.length; at++)
    for (const text of read) expect(text.toLowerCase()).not.toContain(secret.slice(at, at + 4).toLowerCase());
}

describe('a secret that somebody echoes', () => {
  it.each([
    ['as it is', `535 5.7.8 wrong: ${secret}`],
    ['in base64', `535 ${base64(secret)}`],
    ['in base64 behind a byte', `535 ${base64(`x${secret}`)}`],
    ['in base64 behind a name', `535 ${base64(`u@x.org:${secret}`)}`],
    ['in base64 between others', `535 ${base64(`\0me\0${secret}\0more`)}`],
    ['in hexadecimal', `535 ${Buffer.from(secret).toString('hex')}`],
    ['for a URL', `535 p=${encodeURIComponent(secret)}`],
    ['in capitals', `250 ${secret.toUpperCase()}`],
    ['without its end', `535 ${secret.slice(0, -3)}`],
    ['without its beginning', `535 ${secret.slice(3)}`],
    ['only its beginning', `535 ${secret.slice(0, 7)}`],
    ['on many lines', `535-${secret.match(/.{1,5}/g)?.join('\n535-')}`],
    ['on two lines', `535-5.7.8 ${secret.slice(0, 14)}\n535 5.7.8 ${secret.slice(14)}`],
    ['in base64 on two lines', `535-${base64(secret).slice(0, 18)}\n535 ${base64(secret).slice(18)}`],
    ['twice', `${secret} ${secret}`],
  ])('%s', (_, text) => {
    const shown = scrub(text);
    expect(shown).toContain('***');
    expectNothing(shown);
  });

  it.each(['250 2.0.0 Ok: queued as 4XyZ', '535 5.7.8 Username and Password not accepted', '', '***'])(
    'leaves %j alone',
    (text) => expect(scrub(text)).toBe(text),
  );

  it('keeps what stands around it', () => {
    expect(scrub(`535 5.7.8 wrong: ${secret}, try again`)).toBe('535 5.7.8 wrong: ***, try again');
  });

  it.each([8, 10, 12, 14, 15])('so it is with one of %d characters, folded or without an end', (length) => {
    for (let round = 0; round < 200; round++) {
      const own = randomBytes(length).toString('base64url').slice(0, length);
      const hide = secretScrubber(formsOf(own));
      for (const text of [own.slice(1), own.slice(0, -1), `${own.slice(0, 5)}\n535 ${own.slice(5)}`]) {
        const shown = hide(`535 sent ${text}`);
        expect(shown.startsWith('535 sent ***')).toBe(true);
        // What is left of it is less than a piece.
        for (const rest of shown.split(/\*\*\*|\n535 |535 sent /)) expect(rest.length).toBeLessThan(4);
      }
    }
  });

  it.each([
    ['smtp-kX9v2qLw7', '535 5.7.8 smtp login refused by smtp.example.org, see https://example.org/smtp'],
    ['kQSend-2024-x', '554 5.2.0 SendAsDeniedException.MapiException; SendAsDenied; SendAsDenied'],
  ])('a word that comes back is no part of %s', (own, text) => {
    expect(secretScrubber(formsOf(own))(text)).toBe(text);
  });

  it('takes no more memory than a few times what it looks for', () => {
    const tokens = Array.from({ length: 50 }, () => randomBytes(1_500).toString('base64url'));
    const before = process.memoryUsage();
    const scrubbers = tokens.map((token) => secretScrubber(formsOf(token)));
    for (const one of scrubbers) expect(one('250 2.0.0 ok')).toBe('250 2.0.0 ok');
    const after = process.memoryUsage();
    const grown = after.heapUsed - before.heapUsed + after.arrayBuffers - before.arrayBuffers;
    expect(grown / tokens.length).toBeLessThan(400_000);
    expect(scrubbers.map((one, index) => one(`535 ${tokens[index]}`))).toEqual(tokens.map(() => '535 ***'));
  });

  it('a text made of it is gone through once, not once for each of its characters', () => {
    const token = randomBytes(3_000).toString('base64url');
    const forms = formsOf(token);
    const scrub = secretScrubber(forms);
    const looks = vi.spyOn(String.prototype, 'indexOf');
    expect(scrub(`550 ${token.repeat(4)}`)).toBe('550 ***');
    // Each form is looked through for the first few pieces only.
    expect(looks.mock.calls.length).toBeLessThan(100 * forms.length);
    looks.mockRestore();
  });

  it('one with half a character in it is looked for too', () => {
    expect(secretScrubber(formsOf('secret\ud83d'))('535 secret')).toBe('535 ***');
  });

  it('one of which little is left as it is in a URL is found there', () => {
    const odd = '\u00e4\u00a7\u00f6?\u00fc&\u00df=\u00e9';
    expect(secretScrubber(formsOf(odd))(`535 p=${encodeURIComponent(odd)}`)).toBe('535 p=***');
  });

  it('a short one is found as a whole', () => {
    const short = secretScrubber(formsOf('pa55'));
    expect(short('535 pa55 is wrong')).toBe('535 *** is wrong');
    expect(short('535 pa5 is wrong')).toBe('535 pa5 is wrong');
  });

  it('nothing is known of none', () => expect(secretScrubber([])('535 no')).toBe('535 no'));
});

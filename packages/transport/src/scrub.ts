/** So much of a secret may stand in a text by chance, and no more. In characters. */
const beginning = 6;
/** Any other part of a secret is found when it is twice as long, less one. */
const block = 8;
/** How short the pieces are that are taken out of a text that is known to repeat a secret. */
const piece = 4;

/** A secret in the forms somebody who got it might repeat it in; base64 also behind one or two bytes of something else. */
export function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8');
  const inBase64 = [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64');
    // Characters at the edges are of what stands beside it too.
    return before === 0 ? text : text.slice(4);
  });
  const hex = bytes.toString('hex');
  const others = [encodeURIComponent(secret), hex, hex.toUpperCase(), secret.toUpperCase()];
  return [...new Set([...inBase64, ...others, secret])];
}

/**
 * Makes what takes secrets out of a text, should somebody echo them: whole, cut off, or folded over several lines.
 *
 * @param forms what to look for; what has less than four characters is not looked for.
 */
export function secretScrubber(forms: readonly string[]): (text: string) => string {
  const known = forms.filter(({ length }) => length >= piece);
  if (known.length === 0) return (text) => text;
  const all = known.join('\0');
  const repeats = (text: string): boolean => {
    // Whatever is long enough holds a whole block that begins here or there.
    for (let at = 0; at + block <= text.length; at += block)
      if (all.includes(text.slice(at, at + block))) return true;
    return known.some((form) => text.includes(form.slice(0, beginning)));
  };
  return (text) => (repeats(text) ? withoutPieces(text, all) : text);
}

function withoutPieces(text: string, all: string): string {
  let shown = '';
  let end = 0;
  for (let at = 0; at + piece <= text.length; at++) {
    if (!all.includes(text.slice(at, at + piece))) continue;
    if (at > end || end === 0) shown += `${text.slice(end, at)}***`;
    end = at + piece;
  }
  return shown + text.slice(end);
}

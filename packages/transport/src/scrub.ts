/** How long the pieces are by which a secret is looked for. In characters. */
const piece = 4;
/** So many characters of a secret in a row are no chance any more, or half of it when it is shorter. */
const telling = 8;

/** A secret in the forms somebody who got it might repeat it in; base64 also behind one or two bytes of something else. */
export function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8');
  const inBase64 = [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64');
    // Characters at the edges are of what stands beside it too.
    return before === 0 ? text : text.slice(4);
  });
  const hex = bytes.toString('hex');
  const others = [encodeURIComponent(secret.toWellFormed()), hex, hex.toUpperCase(), secret.toUpperCase()];
  return [...new Set([...inBase64, ...others, secret])];
}

/**
 * Makes what takes secrets out of a text, should somebody echo them: whole, cut off at either end, or folded over several lines.
 *
 * @param forms what to look for; what has less than four characters is not looked for.
 */
export function secretScrubber(forms: readonly string[]): (text: string) => string {
  const known = forms.filter(({ length }) => length >= piece);
  if (known.length === 0) return (text) => text;
  const shortest = Math.min(...known.map(({ length }) => length));
  const enough = Math.min(telling, Math.max(Math.min(piece + 1, shortest), Math.floor(shortest / 2)));
  let pieces: Set<string> | undefined;
  return (text) => {
    pieces ??= piecesOf(known);
    return withoutPieces(text, pieces, enough);
  };
}

function piecesOf(forms: readonly string[]): Set<string> {
  const pieces = new Set<string>();
  for (const form of forms)
    for (let at = 0; at + piece <= form.length; at++) pieces.add(form.slice(at, at + piece));
  return pieces;
}

/** Where pieces follow each other, that is what they are of. Where enough do, the text repeats a secret, and all of them go. */
function withoutPieces(text: string, pieces: ReadonlySet<string>, enough: number): string {
  const runs: { readonly begin: number; end: number }[] = [];
  for (let at = 0; at + piece <= text.length; at++) {
    if (!pieces.has(text.slice(at, at + piece))) continue;
    const last = runs.at(-1);
    if (last && at <= last.end) last.end = at + piece;
    else runs.push({ begin: at, end: at + piece });
  }
  if (!runs.some(({ begin, end }) => end - begin >= enough)) return text;
  let shown = '';
  let from = 0;
  for (const { begin, end } of runs) {
    shown += `${text.slice(from, begin)}***`;
    from = end;
  }
  return shown + text.slice(from);
}

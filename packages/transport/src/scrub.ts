/** How long the pieces are by which a secret is looked for. In characters. */
const piece = 4;
/** So many characters of a secret in a row are no chance any more, or half of it when it is shorter; fewer when it begins so. */
const telling = 8;
const tellingBeginning = 6;
/** So many are none when they stand in several places, as in lines that were folded. */
const tellingTogether = 12;
/** Of what repeats itself more places say no more. */
const mostPlaces = 50;
/** Longer in hexadecimal, any number would be like a part of it. */
const longestInHex = 64;

/**
 * A secret in the forms somebody who got it might repeat it in: base64 also behind one or two bytes of something else, and
 * hexadecimal unless it is a long one.
 */
export function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8');
  const inBase64 = [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64');
    // Characters at the edges are of what stands beside it too.
    return before === 0 ? text : text.slice(4);
  });
  const hex =
    secret.length > longestInHex ? [] : [bytes.toString('hex'), bytes.toString('hex').toUpperCase()];
  const inCases = [secret, secret.toUpperCase(), secret.toLowerCase()];
  return [...new Set([...inBase64, ...hex, encodeURIComponent(secret.toWellFormed()), ...inCases])];
}

/** A part of a form that stands in a text. */
interface Run {
  readonly form: number;
  /** Where it begins in the form. */
  readonly from: number;
  readonly begin: number;
  end: number;
}

type Places = ReadonlyMap<string, readonly (readonly [form: number, at: number])[]>;

/**
 * Makes what takes secrets out of a text, should somebody echo them: whole, cut off at either end, or folded over several lines.
 *
 * @param forms what to look for; what has less than four characters is not looked for.
 */
export function secretScrubber(forms: readonly string[]): (text: string) => string {
  const known = forms.filter(({ length }) => length >= piece);
  if (known.length === 0) return (text) => text;
  let places: Places | undefined;
  return (text) => {
    places ??= placesOf(known);
    const runs = runsIn(text, places);
    return tells(runs, known) ? withoutRuns(text, runs) : text;
  };
}

function placesOf(forms: readonly string[]): Places {
  const places = new Map<string, [number, number][]>();
  for (const [form, text] of forms.entries()) {
    for (let at = 0; at + piece <= text.length; at++) {
      const key = text.slice(at, at + piece);
      const known = places.get(key);
      if (!known) places.set(key, [[form, at]]);
      else if (known.length < mostPlaces) known.push([form, at]);
    }
  }
  return places;
}

function runsIn(text: string, places: Places): Run[] {
  const runs: Run[] = [];
  let going = new Map<string, Run>();
  for (let at = 0; at + piece <= text.length; at++) {
    const found = places.get(text.slice(at, at + piece));
    if (!found && going.size === 0) continue;
    const next = new Map<string, Run>();
    for (const [form, from] of found ?? []) {
      const run = going.get(`${form} ${from - 1}`) ?? { form, from, begin: at, end: at };
      if (run.end === at) runs.push(run);
      run.end = at + piece;
      next.set(`${form} ${from}`, run);
    }
    going = next;
  }
  return runs;
}

function tells(runs: readonly Run[], forms: readonly string[]): boolean {
  const together = new Map<number, number>();
  for (const { form, from, begin, end } of runs) {
    const { length } = forms[form] ?? '';
    const enough = Math.min(telling, Math.max(Math.min(piece + 1, length), Math.floor(length / 2)));
    const inAll = (together.get(form) ?? 0) + end - begin;
    together.set(form, inAll);
    if (end - begin >= (from === 0 ? Math.min(enough, tellingBeginning) : enough)) return true;
    if (inAll >= tellingTogether) return true;
  }
  return false;
}

function withoutRuns(text: string, runs: readonly Run[]): string {
  let shown = '';
  let from = 0;
  for (const { begin, end } of runs.toSorted((a, b) => a.begin - b.begin)) {
    if (begin > from || from === 0) shown += `${text.slice(from, begin)}***`;
    from = Math.max(from, end);
  }
  return shown + text.slice(from);
}

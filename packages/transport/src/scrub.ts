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

const secondHash = 0x85ebca6b;

function hashOf(text: string, at: number): number {
  let hash = 0;
  for (let index = at; index < at + piece; index++)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x9e3779b1);
  return hash;
}

type Places = readonly (readonly [form: number, at: number])[];
const none: Places = [];

/** A text in which more pieces than these are found repeats a secret, and each of its characters may be one of them. */
const fewHits = 16;

/** Where the pieces of some forms stand in them. */
class Pieces {
  readonly #forms: readonly string[];
  /**
   * Which pieces there are, two bits for each; a few others have the same (a Bloom filter). A table of all of them would take a
   * hundred times as much memory, and there is one for each session.
   */
  readonly #bits: Uint8Array;
  /** The table after all, for who repeats a secret again and again. */
  #table: WeakRef<Map<string, Places>> | undefined;

  constructor(forms: readonly string[]) {
    this.#forms = forms;
    const length = forms.reduce((sum, form) => sum + form.length, 0);
    this.#bits = new Uint8Array(2 ** Math.ceil(Math.log2(length * 2)));
    for (const form of forms)
      for (let at = 0; at + piece <= form.length; at++) {
        const hash = hashOf(form, at);
        this.#set(hash);
        this.#set(Math.imul(hash, secondHash));
      }
  }

  #set(hash: number): void {
    const bit = (hash >>> 5) & (this.#bits.length * 8 - 1);
    this.#bits[bit >>> 3] = (this.#bits[bit >>> 3] ?? 0) | (1 << (bit & 7));
  }

  #has(hash: number): boolean {
    const bit = (hash >>> 5) & (this.#bits.length * 8 - 1);
    return ((this.#bits[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  #placesOf(one: string): Places {
    const places: [number, number][] = [];
    for (const [form, whole] of this.#forms.entries()) {
      for (let from = whole.indexOf(one); from >= 0; from = whole.indexOf(one, from + 1)) {
        if (places.length === mostPlaces) return places;
        places.push([form, from]);
      }
    }
    return places;
  }

  #tableOfAll(): Map<string, Places> {
    const known = this.#table?.deref();
    if (known) return known;
    const table = new Map<string, [number, number][]>();
    for (const [form, whole] of this.#forms.entries()) {
      for (let from = 0; from + piece <= whole.length; from++) {
        const one = whole.slice(from, from + piece);
        const places = table.get(one);
        if (!places) table.set(one, [[form, from]]);
        else if (places.length < mostPlaces) places.push([form, from]);
      }
    }
    this.#table = new WeakRef(table);
    return table;
  }

  /** For a text: gives the places of the piece that stands somewhere in it. */
  lookUp(text: string): (at: number) => Places {
    let hits = 0;
    let table: Map<string, Places> | undefined;
    return (at) => {
      const hash = hashOf(text, at);
      if (!this.#has(hash) || !this.#has(Math.imul(hash, secondHash))) return none;
      if (++hits > fewHits) table ??= this.#tableOfAll();
      const one = text.slice(at, at + piece);
      return table ? (table.get(one) ?? none) : this.#placesOf(one);
    };
  }
}

/**
 * Makes what takes secrets out of a text, should somebody echo them: whole, cut off at either end, or folded over several lines.
 *
 * @param forms what to look for; what has less than four characters is not looked for.
 */
export function secretScrubber(forms: readonly string[]): (text: string) => string {
  const known = forms.filter(({ length }) => length >= piece);
  if (known.length === 0) return (text) => text;
  let pieces: Pieces | undefined;
  return (text) => {
    pieces ??= new Pieces(known);
    const runs = runsIn(text, pieces);
    return tells(runs, known) ? withoutRuns(text, runs) : text;
  };
}

function runsIn(text: string, pieces: Pieces): Run[] {
  const runs: Run[] = [];
  const placesAt = pieces.lookUp(text);
  let going = new Map<string, Run>();
  for (let at = 0; at + piece <= text.length; at++) {
    const found = placesAt(at);
    if (found.length === 0 && going.size === 0) continue;
    const next = new Map<string, Run>();
    for (const [form, from] of found) {
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
  /** Which characters of a form stand somewhere. A word that comes back says no more than it did. */
  const together = new Map<number, Set<number>>();
  for (const { form, from, begin, end } of runs) {
    const { length } = forms[form] ?? '';
    const enough = Math.min(telling, Math.max(Math.min(piece + 1, length), Math.floor(length / 2)));
    if (end - begin >= (from === 0 ? Math.min(enough, tellingBeginning) : enough)) return true;
    const seen = together.get(form) ?? new Set();
    together.set(form, seen);
    for (let at = from; at < from + end - begin; at++) seen.add(at);
    if (seen.size >= tellingTogether) return true;
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

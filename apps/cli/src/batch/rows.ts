import { constants, createReadStream, open } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { extname } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { parseExactly } from '@flowpost/core';
import { CsvError, parse } from 'csv-parse';
import { invalid, unreadable, utf8Hint } from '../read-input.ts';

export type Row = Readonly<Record<string, unknown>>;
export type RowFormat = 'csv' | 'ndjson';

/** Longer is no row: somewhere a quote is not closed, and the rest of the file would be read into it. In bytes. */
const longestRow = 16 * 1_048_576;

/** Hands bytes through as long as they are UTF-8; other encodings would go out as nonsense. */
class OnlyUtf8 extends Transform {
  readonly #decoder = new TextDecoder('utf-8', { fatal: true });
  readonly #name: string;

  constructor(name: string) {
    super();
    this.#name = name;
  }

  #check(chunk: Buffer | undefined): Error | null {
    try {
      this.#decoder.decode(chunk, { stream: chunk !== undefined });
      return null;
    } catch {
      return invalid(this.#name, 'it is not UTF-8', utf8Hint);
    }
  }

  override _transform(chunk: Buffer, _encoding: string, done: (error: Error | null, data?: Buffer) => void) {
    done(this.#check(chunk), chunk);
  }

  override _flush(done: (error: Error | null) => void): void {
    done(this.#check(undefined));
  }
}

/** Lines as NDJSON has them: a line feed ends one, and nothing else does. */
async function* inLines(source: Readable, name: string): AsyncGenerator<string, void, undefined> {
  const decoder = new StringDecoder('utf8');
  let pending = '';
  for await (const chunk of source) {
    const [first = '', ...others] = decoder.write(chunk as Buffer).split('\n');
    pending += first;
    for (const other of others) {
      yield pending;
      pending = other;
    }
    if (pending.length > longestRow)
      throw invalid(name, 'a line is longer than any row', 'Write one JSON object a line.');
  }
  if (pending !== '') yield pending;
}

/**
 * A named pipe, or what `<(command)` makes. Read as a file, it would have a thread wait for it, which nothing can end, and
 * without which no process ends.
 */
function pipeInto(path: string, target: Transform): void {
  // Without waiting for somebody who writes: of that, too, a thread would never end.
  open(path, constants.O_RDONLY | constants.O_NONBLOCK, (error, fd) => {
    if (error) {
      target.destroy(unreadable(path, error));
      return;
    }
    const source = new Socket({ fd, readable: true, writable: false });
    source.on('error', (cause) => target.destroy(unreadable(path, cause)));
    target.on('close', () => source.destroy());
    if (target.destroyed) source.destroy();
    else source.pipe(target);
  });
}

/** Rows of a table, read as they are asked for; any number of them. */
export class Rows {
  readonly #path: string;
  readonly #format: RowFormat;
  readonly #size: number | undefined;
  readonly #isPipe: boolean;
  /** Where the row that was handed out last ends, in bytes, and which one it was. */
  #end = 0;
  #count = 0;
  readonly #open = new Set<Readable>();

  private constructor(path: string, format: RowFormat, size?: number, isPipe = false) {
    this.#path = path;
    this.#format = format;
    this.#size = size;
    this.#isPipe = isPipe;
  }

  /**
   * @param path a file, or `-` for standard input.
   * @throws MailError `FILE_UNREADABLE`.
   */
  static async open(path: string, format?: RowFormat): Promise<Rows> {
    const usual = ['.ndjson', '.jsonl'].includes(extname(path).toLowerCase()) ? 'ndjson' : 'csv';
    if (path === '-') return new Rows(path, format ?? 'csv');
    try {
      const found = await stat(path);
      if (found.isDirectory()) throw Object.assign(new Error('a folder'), { code: 'EISDIR' });
      return new Rows(path, format ?? usual, found.isFile() ? found.size : undefined, found.isFIFO());
    } catch (cause) {
      throw unreadable(path, cause);
    }
  }

  /**
   * How much of the file is done with, from 0 to 1.
   *
   * @param done how many of its rows are; others were read ahead.
   */
  fraction(done: number): number | undefined {
    if (this.#size === undefined || this.#size === 0 || this.#count === 0) return undefined;
    return (this.#end / this.#size) * Math.min(1, done / this.#count);
  }

  #handOut(row: Row, end: number): Row {
    this.#end = end;
    this.#count++;
    return row;
  }

  /** Whether it can be read from the beginning again. */
  get canRepeat(): boolean {
    return this.#size !== undefined;
  }

  /** Ends whoever still waits for more. */
  close(): void {
    for (const stream of this.#open) stream.destroy();
    this.#open.clear();
  }

  #stream(name: string): Readable {
    this.#end = 0;
    this.#count = 0;
    const text = new OnlyUtf8(name);
    this.#open.add(text);
    if (this.#isPipe) {
      pipeInto(this.#path, text);
      return text;
    }
    const source: Readable = this.#path === '-' ? process.stdin : createReadStream(this.#path);
    source.on('error', (error) => text.destroy(unreadable(name, error)));
    this.#open.add(source);
    return source.pipe(text);
  }

  /** @throws MailError `INPUT_INVALID` naming the line. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Row, void, undefined> {
    const name = this.#path === '-' ? 'standard input' : this.#path;
    try {
      if (this.#format === 'csv') yield* this.#csv(name);
      else yield* this.#ndjson(name);
    } finally {
      this.close();
    }
  }

  async *#csv(name: string): AsyncGenerator<Row, void, undefined> {
    const source = this.#stream(name);
    let isEmpty = true;
    const parser = source.pipe(
      parse({
        bom: true,
        columns: (header: string[]) => {
          isEmpty = false;
          return this.#columns(name, header);
        },
        info: true,
        max_record_size: longestRow,
        // Each, since a file may have been added to on another system.
        record_delimiter: ['\r\n', '\n', '\r'],
        skip_empty_lines: true,
        trim: true,
      }),
    );
    this.#open.add(parser);
    source.on('error', (error) => parser.destroy(error));
    try {
      for await (const { record, info } of parser as AsyncIterable<{ record: Row; info: { bytes: number } }>)
        yield this.#handOut(record, info.bytes);
      if (isEmpty)
        throw invalid(name, 'there is nothing in it', 'The first line names the columns. Save it again.');
    } catch (error) {
      if (!(error instanceof CsvError)) throw error;
      const { lines, message } = error as CsvError & { lines?: number };
      // What stands in a field is nobody's business.
      const why = message.split('\n', 1)[0]?.replace(/, value is .*$/, '');
      throw invalid(
        name,
        `line ${lines ?? 'unknown'} is not CSV (${why})`,
        'Put values with commas, quotes or line ends into quotes, and double quotes within them.',
      );
    }
  }

  #columns(name: string, header: readonly string[]): string[] {
    const [only = ''] = header;
    const separator = header.length === 1 && /[;\t]/.exec(only)?.[0];
    if (separator) {
      const what = separator === ';' ? 'semicolons' : 'tabs';
      throw invalid(name, `its columns are separated by ${what}`, 'Save it as CSV with commas.');
    }
    const twice = header.find((column, index) => header.indexOf(column) !== index);
    if (twice === undefined && !header.includes('')) return [...header];
    const what = twice ? `the column ${JSON.stringify(twice)} is there twice` : 'a column has no name';
    throw invalid(name, what, 'The first line names the columns; give each a name of its own.');
  }

  async *#ndjson(name: string): AsyncGenerator<Row, void, undefined> {
    let number = 0;
    let end = 0;
    for await (const line of inLines(this.#stream(name), name)) {
      number++;
      end += Buffer.byteLength(line) + 1;
      if (line.trim() === '') continue;
      let row: unknown;
      try {
        row = parseExactly(number === 1 ? line.replace(/^\uFEFF/, '') : line);
      } catch {
        row = undefined;
      }
      if (typeof row !== 'object' || row === null || Array.isArray(row)) {
        throw invalid(name, `line ${number} is not a JSON object`, 'Write one JSON object a line.');
      }
      yield this.#handOut(row as Row, end);
    }
  }
}

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { createInterface } from 'node:readline';
import { MailError } from '@flowpost/core';
import { parse } from 'csv-parse';

export type Row = Readonly<Record<string, unknown>>;
export type RowFormat = 'csv' | 'ndjson';

const invalid = (path: string, message: string, hint: string): MailError =>
  new MailError('INPUT_INVALID', `${path}: ${message}.`, { hint, details: { path } });

/** Rows of a table, read as they are asked for; any number of them. */
export class Rows {
  readonly #path: string;
  readonly #format: RowFormat;
  readonly #size: number | undefined;
  #read = 0;

  private constructor(path: string, format: RowFormat, size: number | undefined) {
    this.#path = path;
    this.#format = format;
    this.#size = size;
  }

  /**
   * @param path a file, or `-` for standard input.
   * @throws MailError `FILE_UNREADABLE`.
   */
  static async open(path: string, format?: RowFormat): Promise<Rows> {
    const usual = ['.ndjson', '.jsonl'].includes(extname(path).toLowerCase()) ? 'ndjson' : 'csv';
    if (path === '-') return new Rows(path, format ?? 'csv', undefined);
    try {
      const { size } = await stat(path);
      return new Rows(path, format ?? usual, size);
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code;
      throw new MailError('FILE_UNREADABLE', `${path} cannot be read (${reason}).`, {
        details: { path, reason },
        cause,
      });
    }
  }

  /** How much of the file was read, from 0 to 1. */
  get fraction(): number | undefined {
    return this.#size === undefined || this.#size === 0 ? undefined : this.#read / this.#size;
  }

  #stream(): NodeJS.ReadableStream {
    if (this.#path === '-') return process.stdin;
    const stream = createReadStream(this.#path);
    stream.on('data', (chunk) => {
      this.#read += chunk.length;
    });
    return stream;
  }

  /** @throws MailError `INPUT_INVALID` naming the line. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Row, void, undefined> {
    const name = this.#path === '-' ? 'standard input' : this.#path;
    if (this.#format === 'csv') yield* this.#csv(name);
    else yield* this.#ndjson(name);
  }

  async *#csv(name: string): AsyncGenerator<Row, void, undefined> {
    const source = this.#stream();
    const parser = source.pipe(
      parse({
        bom: true,
        columns: (header: string[]) => this.#columns(name, header),
        skip_empty_lines: true,
        trim: true,
      }),
    );
    source.on('error', (error) => parser.destroy(error));
    try {
      for await (const row of parser) yield row as Row;
    } catch (error) {
      const { code, lines, message } = error as { code?: string; lines?: number; message: string };
      if (!code?.startsWith('CSV_')) throw error;
      throw invalid(
        name,
        `line ${lines ?? 'unknown'} is not CSV (${message.split('\n', 1)[0]})`,
        'Put values with commas, quotes or line ends into quotes, and double quotes within them.',
      );
    }
  }

  #columns(name: string, header: readonly string[]): string[] {
    const twice = header.find((column, index) => header.indexOf(column) !== index);
    if (twice === undefined && !header.includes('')) return [...header];
    const what = twice ? `the column ${JSON.stringify(twice)} is there twice` : 'a column has no name';
    throw invalid(name, what, 'The first line names the columns; give each a name of its own.');
  }

  async *#ndjson(name: string): AsyncGenerator<Row, void, undefined> {
    let number = 0;
    for await (const line of createInterface({
      input: this.#stream(),
      crlfDelay: Number.POSITIVE_INFINITY,
    })) {
      number++;
      if (line.trim() === '') continue;
      let row: unknown;
      try {
        row = JSON.parse(number === 1 ? line.replace(/^\uFEFF/, '') : line);
      } catch {
        row = undefined;
      }
      if (typeof row !== 'object' || row === null || Array.isArray(row)) {
        throw invalid(name, `line ${number} is not a JSON object`, 'Write one JSON object a line.');
      }
      yield row as Row;
    }
  }
}

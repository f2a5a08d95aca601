import { createReadStream, existsSync } from 'node:fs';
import { MailError, readBootId } from '@flowpost/core';
import { RowMemory, states } from './row-memory.ts';

/** This boot of this machine. What was written in another one and not flushed may be lost. Linux only. */
export const bootId: string | undefined = readBootId() || undefined;

export const runLine = (run: number): string => `run ${run} ${bootId ?? '-'}\n`;
export const intentLine = (row: number, key: string): string => `+${row} ${key}\n`;
export const leavingLine = (row: number, key: string): string => `${row} ${key}\n`;

const damaged = (path: string, line: string): MailError =>
  new MailError(
    'FILE_UNREADABLE',
    `${path} holds a line that is none of a batch: ${JSON.stringify(line.slice(0, 60))}.`,
    {
      hint: 'Give --results the file the earlier run wrote, unchanged.',
      details: { path },
    },
  );

/**
 * Hands over the lines of a file. What a crash broke off at its end is none.
 *
 * @param own what a beginning of a line of ours looks like.
 * @returns how many bytes are whole lines.
 * @throws MailError `FILE_UNREADABLE` when it ends in what never was a line of ours.
 */
async function readLines(path: string, own: RegExp, take: (line: string) => void): Promise<number> {
  if (!existsSync(path)) return 0;
  let whole = 0;
  let pending = '';
  // One character a byte, so that lines can be counted in bytes. A power failure may leave zeros where nothing was written yet.
  const written = (text: string): string => text.replaceAll('\0', '');
  for await (const chunk of createReadStream(path, 'latin1')) {
    const lines = (pending + chunk).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      whole += line.length + 1;
      take(written(line));
    }
  }
  const left = written(pending);
  if (left !== '' && !own.test(left)) throw damaged(path, left);
  return whole;
}

/** More no table has; a number beyond it is damage. */
const mostRows = 100_000_000;

const journalLine = /^(?:(\+?)(\d+) (\S{8})|run (\d+) (\S+))$/;
const brokenJournalLine = /^(?:\+?\d*(?: \S*)?|r(?:u(?:n(?: .*)?)?)?)$/;
/** The fields that count stand first, so that a million lines need not be parsed. */
const resultLine = /^\{"row":(\d+),"key":"([\w-]{8})","run":(\d+),"state":"([a-z-]+)"/;
const brokenResultLine = /^\{(?:$|"(?:$|r(?:$|o(?:$|w(?:$|"(?:$|:))))))/;

/** What the journal says was leaving. @returns the last run there was, and how many bytes are whole lines. */
async function readJournal(path: string, memory: RowMemory) {
  let run = 0;
  let boot: string | undefined;
  let intended = new RowMemory();
  const bytes = await readLines(path, brokenJournalLine, (line) => {
    const [, intent, row, key, start, startBoot] = journalLine.exec(line) ?? [];
    if (start !== undefined) {
      run = Number(start);
      boot = startBoot;
      // Whoever began a run settled the one before.
      intended = new RowMemory();
    } else if (key === undefined || Number(row) > mostRows) throw damaged(path, line);
    else (intent ? intended : memory).set(Number(row), key, run, 'begun');
  });
  // The machine has stopped since: of what was to be sent, any may have been leaving.
  if (boot === undefined || boot !== bootId)
    for (const row of intended.rows()) memory.set(row, intended.key(row), run, 'begun');
  return { bytes, run, intended };
}

/**
 * What earlier runs did.
 *
 * @throws MailError `FILE_UNREADABLE` when a file is none of a batch.
 */
export async function readEarlier(path: string, journalPath: string) {
  const memory = new RowMemory();
  const journal = await readJournal(journalPath, memory);
  let latest = journal.run;
  const resultBytes = await readLines(path, brokenResultLine, (line) => {
    const [, row, key, of, state] = resultLine.exec(line) ?? [];
    const known = states.find((one) => one === state);
    if (key === undefined || known === undefined || Number(row) > mostRows) throw damaged(path, line);
    latest = Math.max(latest, Number(of));
    if (Number(of) >= memory.run(Number(row))) memory.set(Number(row), key, Number(of), known);
  });
  return { memory, latest, resultBytes, journalBytes: journal.bytes, intended: journal.intended };
}

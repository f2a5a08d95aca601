import { anySignal, type MailErrorJson, toMailError } from '@flowpost/core';
import { createFlowScope, parseFlowData, runBatch, sendEmailNode } from '@flowpost/node-adapter';
import { exitCodeFor, type Summary, saySummary } from '../batch/batch-summary.ts';
import { Brake } from '../batch/brake.ts';
import { dryRun } from '../batch/dry-run.ts';
import { BatchJournal } from '../batch/journal.ts';
import { resultOf } from '../batch/outcome.ts';
import { paced } from '../batch/paced.ts';
import { type BatchValues, prepareBatch } from '../batch/prepare.ts';
import type { RowState } from '../batch/row-memory.ts';
import { Selection, type Turn } from '../batch/selection.ts';
import { Tally } from '../batch/tally.ts';
import { type Command, readNumber, UsageError } from '../command-line.ts';
import { untilInterrupted } from '../interrupt.ts';
import { printJson, sayTranscript } from '../output.ts';
import { Progress } from '../progress.ts';
import type { batchSpec } from '../specs.ts';

/** Which rows have their turn when, by how they ended in earlier runs. */
function turnsOf(values: BatchValues, journal: BatchJournal): (row: number, key: string) => Turn {
  const again: readonly (RowState | undefined)[] = [
    'deferred',
    ...(values['retry-failed'] ? (['failed'] as const) : []),
    ...(values['retry-in-doubt'] ? (['in-doubt'] as const) : []),
  ];
  return (row, key) => {
    const past = journal.past(row, key);
    if (past === undefined) return 'first';
    return again.includes(past) && !journal.isOfThisRun(row) ? 'later' : 'never';
  };
}

/** `flowpost batch`: one message for each row, written down before and after, so that it can be gone on with. */
export const batch: Command<typeof batchSpec> = async (values) => {
  const limit = values.limit === undefined ? Number.POSITIVE_INFINITY : readNumber('limit', values.limit);
  const concurrency = readNumber('concurrency', values.concurrency, [1, 1_000]);
  if (values['dry-run'] && values.resume)
    throw new UsageError('--dry-run composes every row, so it makes no sense with --resume.');
  if (values['dry-run']) return dryRun(values, limit);
  const { rows, settings, everyMs, host } = await prepareBatch(values);
  if (!rows.canRepeat && values.results === undefined)
    throw new UsageError(`With --rows ${values.rows} give --results FILE.`);
  const path = values.results ?? `${values.rows}.results.ndjson`;
  await using journal = await BatchJournal.open(path, values.resume === true);
  const selection = new Selection(turnsOf(values, journal), limit);
  using interrupted = untilInterrupted();
  const stop = new AbortController();
  const stopping = anySignal(interrupted, stop.signal);
  await using scope = createFlowScope(host);
  const tally = new Tally();
  const brake = new Brake();
  let stoppedBy: MailErrorJson | undefined;
  const halt = (error: MailErrorJson): void => {
    stoppedBy ??= error;
    stop.abort();
  };
  using progress = new Progress(
    () => ({
      fraction: rows.fraction(tally.ended + selection.skipped),
      text: `${tally.sent} sent, ${Math.round(tally.ended / Math.max(tally.seconds, 0.001))}/s`,
    }),
    !values.quiet,
  );
  const selected = selection.of(rows);
  const results = runBatch(
    sendEmailNode,
    { ...settings, stopOnError: false, async: false },
    everyMs === undefined ? selected : paced(selected, everyMs, stopping),
    {
      ...{ flow: parseFlowData({}), scope, concurrency, stopping },
      ...(values.verbose && { transcript: sayTranscript }),
      onBegin: (index) => {
        const { row, key } = selection.place(index);
        journal.intend(row, key);
      },
      beforeData: (index) => {
        const { row, key } = selection.place(index);
        return journal.begin(row, key);
      },
    },
  );
  try {
    for await (const { index, outcome } of results) {
      const { row, key } = selection.place(index);
      selection.places.delete(index);
      tally.add(row, journal.end(row, key, resultOf(outcome)), outcome);
      // Those under way are seen to the end: some of them may be leaving.
      if (journal.failure) halt(journal.failure.toJSON());
      const error = 'error' in outcome ? outcome.error : undefined;
      if (brake.stops(error) && error) halt(error);
    }
  } catch (error) {
    halt(toMailError(error).toJSON());
  } finally {
    rows.close();
  }
  const unwritten = await journal.close();
  if (unwritten) halt(unwritten.toJSON());
  progress[Symbol.dispose]();
  const summary: Summary = {
    ...{ rows: tally.ended, sent: tally.sent, partial: tally.partial },
    ...{
      failed: journal.count('failed'),
      deferred: journal.count('deferred'),
      inDoubt: journal.count('in-doubt'),
      skipped: selection.skipped,
    },
    ...{ seconds: Math.round(tally.seconds * 1_000) / 1_000, results: path, journal: `${path}.journal` },
    ...(stoppedBy && { stoppedBy }),
  };
  if (values.json) printJson(summary);
  else saySummary(summary, interrupted.aborted);
  return exitCodeFor(summary, tally.firstFailure, interrupted.aborted);
};

import { type Connection, type MailErrorJson, parseConnection, toMailError } from '@flowpost/core';
import { createFlowScope, parseFlowData, previewNode, runBatch, sendEmailNode } from '@flowpost/node-adapter';
import { BatchJournal, type RowState } from '../batch/journal.ts';
import { resultOf, stopsBatch } from '../batch/outcome.ts';
import { Rows } from '../batch/rows.ts';
import { Selection } from '../batch/selection.ts';
import { type BatchTemplate, readTemplate } from '../batch/template.ts';
import { type Command, readChoice, readNumber, UsageError, type Values } from '../command-line.ts';
import { readConnection } from '../configuration.ts';
import { exitCodes } from '../exit-codes.ts';
import { untilInterrupted } from '../interrupt.ts';
import { paint, printJson, say, sayError } from '../output.ts';
import { Progress } from '../progress.ts';
import { environmentOptions } from '../read-input.ts';
import { batchSpec } from '../specs.ts';
import { bytesOf } from '../summary.ts';

type BatchValues = Values<typeof batchSpec>;

const perMinute = { s: 60, sec: 60, m: 1, min: 1, h: 1 / 60 } as const;

/** `100/s` in messages a minute. */
function readRate(text: string): number {
  const [, count = '', unit = ''] = /^(\d+)\/(s|sec|m|min|h)$/.exec(text) ?? [];
  const rate = Number(count) * perMinute[unit as keyof typeof perMinute];
  if (rate > 0) return Math.max(1, Math.floor(rate));
  throw new UsageError(
    `--rate takes a number and a unit, such as 100/s, 1000/min or 5000/h, not ${JSON.stringify(text)}.`,
  );
}

/** Settings for one row each, over one connection. */
async function readBatch(values: BatchValues) {
  if (!values.template || !values.rows)
    throw new UsageError('flowpost batch takes --template FILE and --rows FILE.');
  const template = await readTemplate(values.template);
  const rows = await Rows.open(
    values.rows,
    readChoice('format', values.format, batchSpec.options.format.choices),
  );
  const given = values.connection ?? template.settings.connection;
  // A file named by whoever runs the command may start commands of its own; one named by a template may not be opened at all.
  const isFile = typeof given === 'string' && !/^(?:@|[a-z][a-z0-9+.-]*:\/\/)/i.test(given);
  if (values.connection === undefined && isFile)
    throw new UsageError(
      'The connection of a template is a URL, an object or @NAME. Name a file with --connection.',
    );
  const named = typeof given === 'string' ? { ...values, connection: given } : values;
  const input =
    given !== undefined && typeof given !== 'string'
      ? given
      : await readConnection(named, values['dry-run'] ? 'smtp://localhost' : undefined);
  const connection: Connection = parseConnection(input as Parameters<typeof parseConnection>[0]);
  const rate = values.rate === undefined ? {} : { messagesPerMinute: readRate(values.rate) };
  const settings = {
    ...template.settings,
    connection: { ...connection, limits: { ...connection.limits, ...rate } },
  };
  return { template, rows, settings };
}

const hostOf = ({ folder }: BatchTemplate) => ({
  ...environmentOptions(),
  attachments: { baseFolder: folder, fileRoots: [folder, process.cwd()] },
});

/** Composes every message, and sends none. */
async function dryRun(values: BatchValues, limit: number): Promise<number> {
  const { template, rows, settings } = await readBatch(values);
  using interrupted = untilInterrupted();
  const counts = { composed: 0, failed: 0 };
  let first: MailErrorJson | undefined;
  using _progress = new Progress(
    () => ({ fraction: rows.fraction, text: `${counts.composed} composed` }),
    !values.quiet,
  );
  let number = 0;
  for await (const row of rows) {
    if (interrupted.aborted || number >= limit) break;
    number++;
    try {
      const names = { row };
      const preview = await previewNode(
        sendEmailNode,
        settings,
        { flow: parseFlowData({}), names },
        hostOf(template),
      );
      await bytesOf(preview);
      counts.composed++;
      if (values.verbose)
        say(`Row ${number}: ${preview.envelope.to.join(', ')}, ${preview.sizeBytes ?? '?'} bytes`);
    } catch (error) {
      const json = toMailError(error).toJSON();
      first ??= json;
      counts.failed++;
      say(`Row ${number}: ${json.message}`, 'error');
    }
  }
  if (values.json) printJson(counts);
  else say(`${counts.composed} messages composed, ${counts.failed} could not be. Nothing was sent.`);
  return first === undefined ? exitCodes.sent : exitCodes[first.category];
}

/** `flowpost batch`: one message for each row, written down before and after, so that it can be gone on with. */
export const batch: Command<typeof batchSpec> = async (values) => {
  const limit = values.limit === undefined ? Number.POSITIVE_INFINITY : readNumber('limit', values.limit);
  const concurrency = readNumber('concurrency', values.concurrency ?? '20', [1, 1_000]);
  if (values['dry-run']) return dryRun(values, limit);
  const { template, rows, settings } = await readBatch(values);
  if (values.rows === '-' && values.results === undefined)
    throw new UsageError('With --rows - give --results FILE.');
  const path = values.results ?? `${values.rows}.results.ndjson`;
  await using journal = await BatchJournal.open(path, values.resume === true);
  const again: readonly (RowState | undefined)[] = [
    undefined,
    'deferred',
    ...(values['retry-failed'] ? (['failed'] as const) : []),
  ];
  const selection = new Selection((row, key) => again.includes(journal.past(row, key)), limit);
  using interrupted = untilInterrupted();
  const stop = new AbortController();
  await using scope = createFlowScope(hostOf(template));
  const counts = { sent: 0, partial: 0, failed: 0, deferred: 0, 'in-doubt': 0 };
  const started = performance.now();
  const elapsed = (): number => (performance.now() - started) / 1_000;
  let ended = 0;
  let stoppedBy: MailErrorJson | undefined;
  let firstFailure: MailErrorJson | undefined;
  using _progress = new Progress(
    () => ({
      fraction: rows.fraction,
      text: `${counts.sent} sent, ${Math.round(ended / Math.max(elapsed(), 0.001))}/s`,
    }),
    !values.quiet,
  );
  const results = runBatch(
    sendEmailNode,
    { ...settings, stopOnError: false, async: false },
    selection.of(rows),
    {
      ...{ flow: parseFlowData({}), scope, concurrency },
      // What is under way is waited for: cut short, it would be in doubt.
      stopping: AbortSignal.any([interrupted, stop.signal]),
      beforeData: (index) => {
        const { row, key } = selection.place(index);
        return journal.begin(row, key);
      },
    },
  );
  for await (const { index, outcome } of results) {
    const { row, key } = selection.place(index);
    selection.places.delete(index);
    const result = resultOf(outcome);
    journal.end(row, key, result);
    counts[result.state]++;
    ended++;
    if (!('error' in outcome)) continue;
    const error = outcome.error as MailErrorJson;
    if (error.category === 'cancelled') continue;
    say(`Row ${row}: ${result.state}: ${error.message}`, 'error');
    firstFailure ??= error;
    if (!stopsBatch(error)) continue;
    stoppedBy ??= error;
    stop.abort();
  }
  const doubtful = journal.count('in-doubt');
  const summary = {
    rows: ended,
    ...{ sent: counts.sent, partial: counts.partial, failed: counts.failed, deferred: counts.deferred },
    ...{ inDoubt: doubtful, skipped: selection.skipped, seconds: Math.round(elapsed() * 1_000) / 1_000 },
    ...{ results: path, journal: `${path}.journal` },
    ...(stoppedBy && { stoppedBy }),
  };
  if (values.json) printJson(summary);
  else {
    const parts = (['sent', 'partial', 'failed', 'deferred'] as const).filter(
      (one) => one === 'sent' || counts[one] > 0,
    );
    const skipped = selection.skipped > 0 ? `, ${selection.skipped} done before` : '';
    say(
      `${parts.map((one) => `${counts[one]} ${one}`).join(', ')}${skipped}, in ${elapsed().toFixed(1)} s. Each row: ${path}`,
    );
    if (doubtful > 0)
      say(
        `${paint(33, 'In doubt')}: ${doubtful} may have been sent and will not be sent again; see ${path}.`,
      );
    if (stoppedBy) sayError(stoppedBy);
    if (stoppedBy || counts.deferred > 0 || interrupted.aborted) say('Go on with --resume.');
  }
  if (stoppedBy) return exitCodes[stoppedBy.category];
  if (doubtful > 0) return exitCodes['in-doubt'];
  if (interrupted.aborted || counts.deferred > 0) return exitCodes.temporary;
  return firstFailure === undefined ? exitCodes.sent : exitCodes[firstFailure.category];
};

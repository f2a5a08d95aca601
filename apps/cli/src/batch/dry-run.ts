import { type MailErrorJson, toMailError } from '@flowpost/core';
import { parseFlowData, previewNode, sendEmailNode } from '@flowpost/node-adapter';
import { exitCodeOf, exitCodes } from '../exit-codes.ts';
import { untilInterrupted } from '../interrupt.ts';
import { printJson, say } from '../output.ts';
import { Progress } from '../progress.ts';
import { bytesOf } from '../summary.ts';
import { type BatchValues, prepareBatch } from './prepare.ts';

/** Composes every message, and sends none. */
export async function dryRun(values: BatchValues, limit: number): Promise<number> {
  const { rows, settings, host } = await prepareBatch(values);
  using interrupted = untilInterrupted();
  interrupted.addEventListener('abort', () => rows.close());
  const counts = { composed: 0, failed: 0 };
  let first: MailErrorJson | undefined;
  using _progress = new Progress(
    () => ({ fraction: rows.fraction(number), text: `${counts.composed} composed` }),
    !values.quiet,
  );
  let number = 0;
  try {
    for await (const row of rows) {
      number++;
      try {
        const flow = parseFlowData({});
        const preview = await previewNode(sendEmailNode, settings, { flow, names: { row } }, host);
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
      if (interrupted.aborted || number >= limit) break;
    }
  } catch (error) {
    // One who was waiting for more rows is not told that there are none.
    if (!interrupted.aborted) throw error;
  }
  if (values.json) printJson(counts);
  else say(`${counts.composed} messages composed, ${counts.failed} could not be. Nothing was sent.`);
  if (interrupted.aborted) return exitCodes.cancelled;
  return first === undefined ? exitCodes.sent : exitCodeOf(first);
}

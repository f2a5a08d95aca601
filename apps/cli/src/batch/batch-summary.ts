import type { MailErrorJson } from '@flowpost/core';
import { exitCodeOf, exitCodes } from '../exit-codes.ts';
import { paint, say, sayError } from '../output.ts';

/** What happened, in the end. */
export interface Summary {
  readonly rows: number;
  readonly sent: number;
  readonly partial: number;
  /** These three of this run and of those before it: what is left to do. */
  readonly failed: number;
  readonly deferred: number;
  readonly inDoubt: number;
  readonly skipped: number;
  readonly seconds: number;
  readonly results: string;
  readonly journal: string;
  readonly stoppedBy?: MailErrorJson;
}

/** For people. */
export function saySummary(summary: Summary, isInterrupted: boolean): void {
  const { skipped, seconds, results, inDoubt, failed, deferred, stoppedBy } = summary;
  const counts = (['sent', 'partial', 'failed', 'deferred'] as const)
    .filter((one) => one === 'sent' || summary[one] > 0)
    .map((one) => `${summary[one]} ${one}`)
    .join(', ');
  const before = skipped > 0 ? `, ${skipped} done before` : '';
  say(`${counts}${before}, in ${seconds.toFixed(1)} s. Each row: ${results}`);
  if (inDoubt > 0)
    say(
      `${paint('yellow', 'In doubt')}: ${inDoubt} may have been sent and will not be sent again; see ${results}.`,
    );
  if (stoppedBy) sayError(stoppedBy);
  if (failed > 0) say('Those that failed are tried again with --resume --retry-failed.');
  if ((stoppedBy && stoppedBy.category !== 'input') || deferred > 0 || isInterrupted)
    say('Go on with --resume.');
}

/** That something has to be set right counts for more than what is in doubt, and that for more than what may succeed later. */
export function exitCodeFor(
  { stoppedBy, inDoubt, deferred, failed, partial }: Summary,
  firstFailure: MailErrorJson | undefined,
  isInterrupted: boolean,
): number {
  const exitCode = stoppedBy && exitCodeOf(stoppedBy);
  if (exitCode !== undefined && exitCode !== exitCodes.temporary) return exitCode;
  if (inDoubt > 0) return exitCodes['in-doubt'];
  if (exitCode !== undefined || isInterrupted || deferred > 0) return exitCodes.temporary;
  if (firstFailure !== undefined) return exitCodeOf(firstFailure);
  if (failed > 0) return exitCodes.input;
  return partial > 0 ? exitCodes.partial : exitCodes.sent;
}

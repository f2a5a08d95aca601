import { verifyConnection } from '@flowpost/transport';
import type { Command } from '../command-line.ts';
import { readConnection } from '../configuration.ts';
import { exitCodeOf, exitCodes } from '../exit-codes.ts';
import { untilInterrupted } from '../interrupt.ts';
import { printJson, sayStep, sayTranscript } from '../output.ts';
import { environmentOptions } from '../read-input.ts';
import type { verifySpec } from '../specs.ts';

/** `flowpost verify`: the way to the server step by step; what is wrong, and how to mend it. Sends nothing. */
export const verify: Command<typeof verifySpec> = async (values) => {
  const connection = await readConnection(values);
  using interrupted = untilInterrupted();
  const report = await verifyConnection(connection, {
    ...environmentOptions(),
    signal: interrupted,
    ...(!values.json && { onStep: sayStep }),
    ...(values.verbose && { transcript: sayTranscript }),
  });
  if (values.json) printJson(report);
  const failed = report.steps.find(({ status }) => status === 'failed');
  return failed?.error ? exitCodeOf(failed.error) : exitCodes.sent;
};

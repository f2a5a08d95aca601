import { parseArgs } from 'node:util';
import { verifyConnection } from '@flowpost/transport';
import { readConnection } from '../connection-argument.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson, sayStep } from '../output.ts';
import { environmentOptions } from '../read-input.ts';

/** `flowpost verify`: the way to the server step by step; what is wrong, and how to mend it. Sends nothing. */
export async function verify(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { connection: { type: 'string' }, json: { type: 'boolean' } },
    allowPositionals: false,
  });
  const connection = await readConnection(values.connection);
  const report = await verifyConnection(connection, {
    ...environmentOptions(),
    ...(!values.json && { onStep: sayStep }),
  });
  if (values.json) printJson(report);
  const failed = report.steps.find(({ status }) => status === 'failed');
  return failed?.error ? exitCodes[failed.error.category] : exitCodes.sent;
}

import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { MailError } from '@flowpost/core';
import { createFlowScope, findNode, type NodeOutcome, parseFlowData, runNode } from '@flowpost/node-adapter';
import { readConnection } from '../connection-argument.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson, say, sayError, sayReceipt } from '../output.ts';
import { environmentOptions, readJson } from '../read-input.ts';
import { UsageError } from '../usage.ts';

interface StepFile {
  readonly node: string;
  readonly settings: Record<string, unknown>;
  readonly flow?: unknown;
}

async function readStep(path: string): Promise<StepFile> {
  const step = await readJson(path);
  const { node, settings } = (step ?? {}) as Partial<StepFile>;
  if (typeof node === 'string' && typeof settings === 'object' && settings !== null) return step as StepFile;
  throw new MailError('INPUT_INVALID', `${path} must hold { "node": TYPE, "settings": {...} }.`, {
    details: {
      path,
      issues: [
        { path: 'node', message: 'a text' },
        { path: 'settings', message: 'an object' },
      ],
    },
  });
}

/** What the arguments of `flowpost run` and `flowpost preview` name: a node, its settings, and the flow's data. */
export async function readRun(command: string, argv: readonly string[]) {
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { flow: { type: 'string' }, connection: { type: 'string' }, json: { type: 'boolean' } },
    allowPositionals: true,
  });
  const [path, ...rest] = positionals;
  if (path === undefined || rest.length > 0) throw new UsageError(`flowpost ${command} takes one FILE.`);
  const step = await readStep(path);
  const flow = parseFlowData(values.flow === undefined ? step.flow : await readJson(values.flow));
  const settings =
    values.connection === undefined
      ? step.settings
      : { ...step.settings, connection: await readConnection(values.connection) };

  // Files may come from the folder of the step and from the working directory, relative ones from the former.
  const folder = dirname(resolve(path));
  const attachments = { baseFolder: folder, fileRoots: [folder, process.cwd()] };
  const sending = { ...environmentOptions(), attachments };
  return { node: findNode(step.node), settings, flow, sending, json: values.json === true };
}

/** `flowpost run`: one node, with settings and flow data from files. Prints the outcome and the flow's new data. */
export async function run(argv: readonly string[]): Promise<number> {
  const { node, settings, flow, sending, json } = await readRun('run', argv);
  await using scope = createFlowScope(sending);
  let settled: NodeOutcome | undefined;
  const onSettled = (one: NodeOutcome): void => {
    settled = one;
  };
  const { flow: after, ...outcome } = await runNode(node, settings, { flow, scope, onSettled });
  // A flow would have gone on; here there is nothing to go on with, and how it ends is what one wants to see.
  await scope.background.drain();
  const { flow: _, ...end } = settled ?? { ...outcome, flow: after };
  printJson({ outcome, flow: settled?.flow ?? after, ...(settled && { settled: end }) });
  if (!json) {
    for (const { message } of outcome.warnings ?? []) say(`Warning: ${message}`);
    if ('error' in end) sayError(end.error);
    else sayReceipt(end.receipt);
  }
  return 'error' in end ? exitCodes[end.error.category] : exitCodes.sent;
}

import { unwatchFile, watchFile } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MailError, type SchemaIssue, toMailError } from '@flowpost/core';
import {
  createFlowScope,
  findNode,
  type NodeOutcome,
  parseFlowData,
  previewNode,
  runNode,
  sendEmailNode,
} from '@flowpost/node-adapter';
import { type Command, UsageError } from '../command-line.ts';
import { readConnection } from '../configuration.ts';
import { attachmentsBeside, currentFolder } from '../current-folder.ts';
import { exitCodeOf, exitCodes } from '../exit-codes.ts';
import { untilInterrupted } from '../interrupt.ts';
import { printJson, say, sayError, sayReceipt, sayTranscript } from '../output.ts';
import { environmentOptions, readJson } from '../read-input.ts';
import type { runSpec } from '../specs.ts';
import { summarize } from '../summary.ts';

interface StepFile {
  readonly node: string;
  readonly settings: Record<string, unknown>;
  readonly flow?: unknown;
}

async function readStep(path: string): Promise<StepFile> {
  const step = await readJson(path);
  const { node, settings } = (step ?? {}) as Partial<StepFile>;
  const issues: SchemaIssue[] = [];
  if (typeof node !== 'string') issues.push({ path: 'node', message: 'it must be a text' });
  if (typeof settings !== 'object' || settings === null)
    issues.push({ path: 'settings', message: 'it must be an object' });
  if (issues.length === 0) return step as StepFile;
  throw new MailError('INPUT_INVALID', `${path} must hold { "node": TYPE, "settings": {...} }.`, {
    details: { path, issues },
  });
}

interface StepArguments {
  readonly flow?: string | undefined;
  readonly connection?: string | undefined;
  readonly config?: string | undefined;
  readonly files?: readonly string[] | undefined;
  readonly 'allow-host'?: readonly string[] | undefined;
}

/** What the arguments of `flowpost run` and `flowpost preview` name: a node, its settings, and the flow's data. */
export async function readRun(
  command: string,
  values: StepArguments,
  operands: readonly string[],
  { previewOnly = command === 'preview' }: { readonly previewOnly?: boolean } = {},
) {
  const [path, ...rest] = operands;
  if (path === undefined || rest.length > 0) throw new UsageError(`flowpost ${command} takes one FILE.`);
  const step = await readStep(path);
  const flow = parseFlowData(values.flow === undefined ? step.flow : await readJson(values.flow));
  const { connection } = step.settings;
  const named =
    values.connection ??
    (typeof connection === 'string' && connection.startsWith('@') ? connection : undefined);
  const node = findNode(step.node);
  if (values.connection !== undefined && node.type !== sendEmailNode.type)
    throw new UsageError(
      `A ${node.type} step says in its settings where the server is, not with --connection.`,
    );
  // The nodes of other platforms say in their own words where the server is.
  const isMissing = connection === undefined && node.type === sendEmailNode.type;
  const settings =
    named === undefined && !isMissing
      ? step.settings
      : {
          ...step.settings,
          connection: await readConnection({ ...values, connection: named }, { previewOnly }),
        };

  const attachments = await attachmentsBeside(dirname(resolve(currentFolder(), path)), values);
  const sending = { ...environmentOptions(), attachments };
  return { node, settings, flow, sending };
}

/** How often files are looked at, in milliseconds. */
const watchMs = 200;

/** Shows what would be sent, again whenever a file has changed, until it is interrupted. */
async function watchStep(values: StepArguments, operands: readonly string[]): Promise<number> {
  using interrupted = untilInterrupted();
  const show = async (): Promise<void> => {
    try {
      const { node, settings, flow, sending } = await readRun('run', values, operands, { previewOnly: true });
      const preview = await previewNode(node, settings, { flow }, sending);
      process.stdout.write(await summarize(preview));
    } catch (error) {
      if (error instanceof UsageError) throw error;
      sayError(toMailError(error).toJSON());
    }
    say(`Nothing was sent. Watching ${[...files].join(' and ')}; stop with Ctrl-C.`);
  };
  const files = new Set(
    [...operands, ...(values.flow === undefined ? [] : [values.flow])].map((one) =>
      resolve(currentFolder(), one),
    ),
  );
  let changed = Promise.withResolvers<void>();
  const onChange = (): void => changed.resolve();
  // Looked at again and again: editors put a new file in the place of the old one, and links lead elsewhere.
  for (const file of files) watchFile(file, { interval: watchMs }, onChange);
  const stopped = new Promise<void>((done) =>
    interrupted.addEventListener('abort', () => done(), { once: true }),
  );
  try {
    while (!interrupted.aborted) {
      await show();
      await Promise.race([changed.promise, stopped]);
      // Written in several steps, it is read when it is whole.
      await Promise.race([delay(100), stopped]);
      changed = Promise.withResolvers();
    }
  } finally {
    for (const file of files) unwatchFile(file, onChange);
  }
  return exitCodes.sent;
}

/** `flowpost run`: one node, with settings and flow data from files. Prints the outcome and the flow's new data. */
export const run: Command<typeof runSpec> = async (values, operands) => {
  if (values.watch && values.json)
    throw new UsageError('--watch prints again and again, so there is no one JSON document.');
  if (values.watch) return watchStep(values, operands);
  const { node, settings, flow, sending } = await readRun('run', values, operands);
  using interrupted = untilInterrupted();
  // Asynchronous sends go on without the run's signal.
  await using scope = createFlowScope({ ...sending, closing: interrupted });
  let settled: NodeOutcome | undefined;
  const onSettled = (one: NodeOutcome): void => {
    settled = one;
  };
  const { flow: after, ...outcome } = await runNode(node, settings, {
    ...{ flow, scope, onSettled, signal: interrupted },
    ...(values.verbose && { transcript: sayTranscript }),
  });
  // A flow would have gone on; here there is nothing to go on with, and how it ends is what one wants to see.
  await scope.background.drain();
  const { flow: _, ...end } = settled ?? { ...outcome, flow: after };
  // Variables hold logins, and a node changes none.
  const { variables: _secrets, ...shown } = settled?.flow ?? after;
  printJson({ outcome, flow: shown, ...(settled && { settled: end }) });
  if (!values.json) {
    for (const { message } of outcome.warnings ?? []) say(`Warning: ${message}`);
    if ('error' in end) sayError(end.error);
    else sayReceipt(end.receipt);
  }
  if ('error' in end) return exitCodeOf(end.error);
  return end.receipt.status === 'partial' ? exitCodes.partial : exitCodes.sent;
};

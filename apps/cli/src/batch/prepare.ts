import { parseConnection } from '@flowpost/core';
import { readChoice, UsageError, type Values } from '../command-line.ts';
import { readConnection } from '../configuration.ts';
import { attachmentsBeside } from '../current-folder.ts';
import { environmentOptions } from '../read-input.ts';
import { batchSpec } from '../specs.ts';
import { Rows } from './rows.ts';
import { readTemplate } from './template.ts';

export type BatchValues = Values<typeof batchSpec>;

const unitMs = { s: 1_000, sec: 1_000, m: 60_000, min: 60_000, h: 3_600_000 } as const;

/** `100/s` as the time from one message to the next, in milliseconds. */
function readRate(text: string): number {
  const [, count = '', unit = ''] = /^(\d+)\/(s|sec|m|min|h)$/.exec(text) ?? [];
  const everyMs = unitMs[unit as keyof typeof unitMs] / Number(count);
  if (everyMs > 0 && Number.isFinite(everyMs)) return everyMs;
  throw new UsageError(
    `--rate takes a number and a unit, such as 100/s, 1000/min or 5000/h, not ${JSON.stringify(text)}.`,
  );
}

/** What is sent to whom over what: settings for one row each, over one connection. */
export async function prepareBatch(values: BatchValues) {
  if (!values.template || !values.rows)
    throw new UsageError('flowpost batch takes --template FILE and --rows FILE.');
  const template = await readTemplate(values.template);
  const format = readChoice('format', values.format, batchSpec.options.format.choices);
  const rows = await Rows.open(values.rows, format);
  const given = values.connection ?? template.settings.connection;
  // A file named by whoever runs the command may start commands of its own; one named by a template may not be opened at all.
  const isFile = typeof given === 'string' && !/^(?:@|[a-z][a-z0-9+.-]*:\/\/)/i.test(given);
  if (values.connection === undefined && isFile)
    throw new UsageError(
      'The connection of a template is a URL, an object or @NAME. Name a file with --connection.',
    );
  const named = typeof given === 'string' ? { ...values, connection: given } : values;
  const previewOnly = values['dry-run'] === true;
  const input =
    given !== undefined && typeof given !== 'string' ? given : await readConnection(named, { previewOnly });
  const settings = {
    ...template.settings,
    connection: parseConnection(input as Parameters<typeof parseConnection>[0]),
  };
  return {
    ...{ rows, settings },
    everyMs: values.rate === undefined ? undefined : readRate(values.rate),
    host: {
      ...environmentOptions(),
      attachments: await attachmentsBeside(template.folder, values),
    },
  };
}

import { cpus } from 'node:os';

/** One measurement: what was done, by whom, and how it went. */
export interface Row {
  readonly case: string;
  readonly subject: string;
  readonly metric: string;
  readonly value: number;
  readonly unit: string;
}

/** What one benchmark found. Ratios are ours over the peer's: above 1 we are better, whatever the metric. */
export interface Report {
  readonly rows: readonly Row[];
  readonly ratios: Readonly<Record<string, number>>;
}

/** The benchmark as one JSON document. */
export function toJson(name: string, { rows, ratios }: Report): string {
  const [{ model = 'unknown' } = {}] = cpus();
  const machine = { cpu: model, cores: cpus().length, platform: process.platform, node: process.version };
  return JSON.stringify({ name, machine, rows, ratios }, null, 2);
}

const digits = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);

/** The benchmark for people: one line a measurement, columns aligned, ratios below. */
export function toTable({ rows, ratios }: Report): string {
  const lines = rows.map((row) => [row.case, row.subject, row.metric, `${digits(row.value)} ${row.unit}`]);
  const table = [['case', 'subject', 'metric', 'value'], ...lines];
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((line) => line[column]?.length ?? 0)));
  const text = table.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  const shown = Object.entries(ratios).map(([key, value]) => `${key}  ${value.toFixed(2)}`);
  return [...text, '', 'ratios (ours over the peer, above 1 is better)', ...shown].join('\n');
}

import { startJob } from './measure.ts';
import type { Report, Row } from './report.ts';
import { compare } from './send.ts';

const subjects = ['flowpost', 'node', 'node with dynamic fields'];

/** What a node adds to the sender below it: expressions, its own schema, mapping, guards, outcome. */
export async function node(progress: (what: string) => void): Promise<Report> {
  const rows: Row[] = [];
  const ratios: Record<string, number> = {};
  for (const connections of [1, 5]) {
    progress(`${connections} connections`);
    await using sink = await startJob<{ port: number }>('smtp-sink');
    const found = await compare(sink.ready.port, subjects, { connections, messages: 10_000 });
    for (const [subject, value] of found) {
      rows.push({ case: `${connections} connections`, subject, metric: 'messages', value, unit: '/s' });
    }
    const of = (subject: string): number =>
      (found.get(subject) ?? Number.NaN) / (found.get('flowpost') ?? Number.NaN);
    const suffix = connections === 1 ? '' : `.c${connections}`;
    ratios[`node.overhead${suffix}`] = of('node');
    ratios[`node.overhead.dynamic${suffix}`] = of('node with dynamic fields');
  }
  return { rows, ratios };
}

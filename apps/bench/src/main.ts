import { parseArgs } from 'node:util';
import { batch } from './batch.ts';
import { cli } from './cli.ts';
import { compose } from './compose.ts';
import { node } from './node.ts';
import { type Report, toJson, toTable } from './report.ts';
import { send } from './send.ts';
import { server } from './server.ts';

const benchmarks: Readonly<Record<string, (progress: (what: string) => void) => Promise<Report>>> = {
  compose,
  batch,
  cli,
  node,
  send,
  server,
};

const { values, positionals } = parseArgs({ options: { json: { type: 'boolean' } }, allowPositionals: true });
const [name = ''] = positionals;
const benchmark = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
if (!benchmark) {
  process.stderr.write(`Usage: npm run bench -- ${Object.keys(benchmarks).join('|')} [--json]\n`);
  process.exit(64);
}
const report = await benchmark((what) => process.stderr.write(`${name}: ${what}\n`));
process.stdout.write(`${values.json ? toJson(name, report) : toTable(report)}\n`);

import { median, runJob, startJob } from './measure.ts';
import type { Report, Row } from './report.ts';

const peers = [
  'nodemailer pool',
  'upyo',
  'nodemailer connection, ready-made bytes',
  'nodemailer, a connection each',
];
const ours = ['flowpost', 'flowpost with guards'];
const rounds = 3;
/** By then the engine has compiled what a sender does; before, how much code there is decides. */
const warmUpMs = 5_000;

interface Load {
  readonly subject: string;
  readonly connections: number;
  readonly messages: number;
  readonly recipients?: number;
  readonly warmUpMs?: number;
}

async function rate(port: number, load: Load): Promise<number> {
  const { subject, connections, messages, recipients = 1, warmUpMs: warmUp = 0 } = load;
  const args = { subject, port, connections, messages, recipients, 'warm-up': warmUp };
  const list = Object.entries(args).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return (await runJob<{ perSecond: number }>('send-load', ...list)).perSecond;
}

/** The subjects in turn, each in a process of its own, several rounds; the median of each. */
export async function compare(port: number, subjects: readonly string[], load: Omit<Load, 'subject'>) {
  const found = new Map<string, number[]>(subjects.map((subject) => [subject, []]));
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) {
      // What opens a connection for each message would otherwise take most of the time.
      const messages = subject.endsWith('each') ? Math.ceil(load.messages / 5) : load.messages;
      found.get(subject)?.push(await rate(port, { ...load, subject, messages, warmUpMs }));
    }
  }
  return new Map([...found].map(([subject, values]) => [subject, median(values)]));
}

/** How many round trips the sink saw for one message on an open session. */
async function roundTrips(subject: string, recipients: number): Promise<number> {
  await using sink = await startJob<{ port: number }>('smtp-sink');
  const turns = async (messages: number): Promise<number> => {
    const before = (await sink.ask()) as { turns: number };
    await rate(sink.ready.port, { subject, connections: 1, messages, recipients });
    return ((await sink.ask()) as { turns: number }).turns - before.turns;
  };
  // Two loads that differ by so many messages, warm-up included: what opening costs falls out.
  const [few, many] = [await turns(100), await turns(200)];
  return (many - few) / 300;
}

/** Sending, through a sink that is the same for all. */
export async function send(progress: (what: string) => void): Promise<Report> {
  const rows: Row[] = [];
  const rates: Record<number, Map<string, number>> = {};
  for (const connections of [1, 5]) {
    progress(`${connections} connections`);
    await using sink = await startJob<{ port: number }>('smtp-sink');
    const found = await compare(sink.ready.port, [...ours, ...peers], { connections, messages: 10_000 });
    rates[connections] = found;
    for (const [subject, value] of found) {
      rows.push({ case: `${connections} connections`, subject, metric: 'messages', value, unit: '/s' });
    }
  }
  for (const recipients of [1, 100]) {
    progress(`${recipients} recipients, round trips`);
    for (const subject of ['flowpost', 'nodemailer pool', 'upyo']) {
      const value = await roundTrips(subject, recipients);
      rows.push({ case: `${recipients} recipients`, subject, metric: 'round trips', value, unit: '' });
    }
  }
  progress('20 ms each way');
  await using far = await startJob<{ port: number }>('smtp-sink', '--delay', '20');
  for (const recipients of [1, 100]) {
    for (const subject of [
      'flowpost',
      'nodemailer pool',
      'upyo',
      'nodemailer connection, ready-made bytes',
    ]) {
      const perSecond = await rate(far.ready.port, { subject, connections: 1, messages: 5, recipients });
      const name = `${recipients} recipients, 20 ms each way`;
      rows.push({ case: name, subject, metric: 'time', value: 1_000 / perSecond, unit: 'ms' });
    }
  }
  const ratio = (connections: number, subject: string): number =>
    (rates[connections]?.get('flowpost') ?? Number.NaN) / (rates[connections]?.get(subject) ?? Number.NaN);
  return {
    rows,
    ratios: {
      'send.c1.vs.nodemailer-pool': ratio(1, 'nodemailer pool'),
      'send.c5.vs.nodemailer-pool': ratio(5, 'nodemailer pool'),
      'send.c5.vs.upyo': ratio(5, 'upyo'),
      'send.c5.vs.raw': ratio(5, 'nodemailer connection, ready-made bytes'),
      'send.c5.vs.per-connection': ratio(5, 'nodemailer, a connection each'),
      'send.c5.guards': 1 / ratio(5, 'flowpost with guards'),
    },
  };
}

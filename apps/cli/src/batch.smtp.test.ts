import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { cleanEnvironment, command, Workplace } from './testing/flowpost.test-support.ts';

const letter = `---
from: Shop <shop@example.com>
to: {{ row.email }}
subject: Order {{ row.number }}
---
Hello {{ row.name }}
`;
const people = (count: number): string =>
  [
    'email,name,number',
    ...Array.from({ length: count }, (_, at) => `p${at + 1}@x.org,"Person, ${at + 1}",${at + 1}`),
  ].join('\n');
const batch = ['batch', '--template', 'letter.txt', '--rows', 'people.csv'];

async function resultsIn(place: Workplace, name = 'people.csv.results.ndjson') {
  const lines = (await readFile(place.path(name), 'utf8')).trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as { row: number; state: string; error?: { message: string } });
}

describe('a batch', () => {
  it('sends a message of its own to each row, and writes down what became of it', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': `\uFEFF${people(30)}\n` });
    await using inbox = await SmtpInbox.start();
    const { code, out } = await place.flowpost([...batch, '--connection', inbox.url, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ rows: 30, sent: 30, failed: 0, inDoubt: 0, skipped: 0 });
    expect(inbox.connections).toBeLessThanOrEqual(5);
    expect(
      inbox.messages
        .map(({ to, subject, text }) => `${to[0]?.address} ${subject} ${text?.trim()}`)
        .toSorted(),
    ).toEqual(
      Array.from(
        { length: 30 },
        (_, at) => `p${at + 1}@x.org Order ${at + 1} Hello Person, ${at + 1}`,
      ).toSorted(),
    );
    const results = await resultsIn(place);
    expect(results.map(({ row }) => row).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 30 }, (_, at) => at + 1),
    );
    expect(new Set(results.map(({ state }) => state))).toEqual(new Set(['sent']));
  });

  it('takes NDJSON, an HTML template with attachments for each row, and a connection of the configuration', async () => {
    await using place = await Workplace.make({
      'letters/letter.html': `---
to: "{{ row.email }}"
from: shop@example.com
subject: For {{ row.name }}
attachments:
  - kind: file
    path: {{ row.file }}
---
<p>{{ row.name }}</p>`,
      'letters/a.txt': 'of a',
      'letters/b.txt': 'of b',
      'rows.ndjson':
        '{"email":"a@x.org","name":"A & Ä","file":"a.txt"}\n\n{"email":"b@x.org","name":"B","file":"b.txt"}\n',
    });
    await using inbox = await SmtpInbox.start();
    await place.write('.config/flowpost/config.yaml', `connections:\n  work: ${inbox.url}\ndefault: work\n`);
    const { code } = await place.flowpost([
      'batch',
      '--template',
      'letters/letter.html',
      '--rows',
      'rows.ndjson',
    ]);
    expect(code).toBe(0);
    const found = inbox.messages.map(({ html, attachments }) => [html, attachments[0]?.content.toString()]);
    expect(found.toSorted()).toEqual([
      ['<p>A &amp; Ä</p>', 'of a'],
      ['<p>B</p>', 'of b'],
    ]);
  });

  it('a row that is the duplicate of one that some did not get is no more sent than that', async () => {
    await using place = await Workplace.make({
      'letter.txt': '---\nfrom: a@x.org\nto: {{ row.to }}\nduplicateWindowMs: 60000\n---\nHello',
      'rows.csv': 'to\n"b@x.org,no@x.org"\n"no@x.org,b@x.org"\n',
    });
    const rcptTo = (address: string) =>
      address === 'no@x.org' ? { code: 550, text: '5.1.1 no such user' } : undefined;
    await using inbox = await SmtpInbox.start({ refuse: { rcptTo } });
    const args = ['batch', '--template', 'letter.txt', '--rows', 'rows.csv', '--connection', inbox.url];
    const { out } = await place.flowpost([...args, '--json']);
    expect(JSON.parse(out)).toMatchObject({ sent: 0, partial: 2 });
    expect(inbox.messages).toHaveLength(1);
  });

  it('reads rows from standard input, as many as wanted', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter });
    await using inbox = await SmtpInbox.start();
    const args = [
      'batch',
      '--template',
      'letter.txt',
      '--rows',
      '-',
      '--connection',
      inbox.url,
      '--limit',
      '2',
    ];
    expect(await place.flowpost(args, {}, people(5))).toMatchObject({ code: 64 });
    const { code, err } = await place.flowpost([...args, '--results', 'out.ndjson'], {}, people(5));
    expect([code, inbox.messages.length]).toEqual([0, 2]);
    expect(err).toMatch(/^2 sent, in \d/);
  });

  it('composes everything and sends nothing in a dry run, and names the rows that cannot be', async () => {
    await using place = await Workplace.make({
      'letter.txt': letter,
      'people.csv': 'email,name,number\na@x.org,A,1\nnobody,B,2\nc@x.org,C,3\n',
    });
    const { code, out, err } = await place.flowpost([...batch, '--dry-run', '--json']);
    expect(code).toBe(65);
    expect(JSON.parse(out)).toEqual({ composed: 2, failed: 1 });
    expect(err).toMatch(/^Row 2: .*nobody/);
    await expect(readFile(place.path('people.csv.results.ndjson'))).rejects.toThrow('ENOENT');
  });

  it('keeps to a rate', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(4) });
    await using inbox = await SmtpInbox.start();
    const limited = await place.flowpost([
      ...batch,
      '--connection',
      inbox.url,
      '--rate',
      '180/min',
      '--limit',
      '200',
      '--json',
    ]);
    expect(limited.code).toBe(0);
    expect((await place.flowpost([...batch, '--rate', 'fast', '--connection', inbox.url])).code).toBe(64);
  });
});

describe('what goes wrong', () => {
  it.each([
    ['no settings', 'letter.txt', 'Hello', /does not begin with settings/, 65],
    ['settings that are no YAML', 'letter.txt', '---\nto: [a\n---\nHi', /not valid YAML/, 65],
    ['settings that mean nothing here', 'letter.txt', '---\nasync: true\n---\nHi', /async means nothing/, 65],
    [
      'a filter there is none of',
      'letter.txt',
      '---\nto: {{ row.email }}\n---\n{{ row.name | upcas }}',
      /field text cannot be worked out: undefined filter: upcas/,
      65,
    ],
    ['a column twice', 'people.csv', 'email,email\na,b\n', /"email" is there twice/, 65],
    [
      'a quote in a field',
      'people.csv',
      'email,name,number\na@x.org,5" pipe,1\n',
      /line 2 is not CSV (?!.*pipe)/,
      65,
    ],
    ['a quote that does not end', 'people.csv', 'email,name,number\n"a@x.org,A,1\n', /is not CSV/, 65],
    ['too few values', 'people.csv', 'email,name,number\na@x.org,A\n', /line 2 is not CSV/, 65],
  ])('%s', async (_, name, content, expected, code) => {
    await using place = await Workplace.make({
      'letter.txt': letter,
      'people.csv': people(2),
      [name]: content,
    });
    await using inbox = await SmtpInbox.start();
    const result = await place.flowpost([...batch, '--connection', inbox.url]);
    expect(result.err).toMatch(expected);
    expect(result.code).toBe(code);
    expect(inbox.messages).toHaveLength(0);
  });

  it('a row that fails does not keep others from being sent, and is not tried again unless it is asked for', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(6) });
    let refuses = true;
    await using inbox = await SmtpInbox.start({
      refuse: {
        rcptTo: (to) => {
          if (to === 'p2@x.org' && refuses) return { code: 550, text: '5.1.1 no such user' };
          return to === 'p4@x.org' && refuses ? { code: 452, text: '4.2.2 full' } : undefined;
        },
      },
    });
    const first = await place.flowpost([
      ...batch,
      '--connection',
      inbox.url,
      '--json',
      ...['--concurrency', '1'],
    ]);
    // What may succeed later counts for more than what cannot.
    expect(first.code).toBe(75);
    expect(JSON.parse(first.out)).toMatchObject({ rows: 6, sent: 4, failed: 1, deferred: 1 });
    expect(first.err).toMatch(/Row 2: failed: .*\n.*Row 4: deferred:/s);
    refuses = false;
    expect((await place.flowpost([...batch, '--connection', inbox.url])).code).toBe(64);
    const second = await place.flowpost([...batch, '--connection', inbox.url, '--resume', '--json']);
    expect(JSON.parse(second.out)).toMatchObject({ rows: 1, sent: 1, failed: 1, skipped: 5 });
    // Somebody is left who was never written to.
    expect(second.code).toBe(65);
    const third = await place.flowpost([
      ...batch,
      '--connection',
      inbox.url,
      '--resume',
      '--retry-failed',
      '--json',
    ]);
    expect(JSON.parse(third.out)).toMatchObject({ rows: 1, sent: 1, failed: 0, skipped: 5 });
    expect(third.code).toBe(0);
    expect(inbox.messages.map(({ subject }) => subject).toSorted()).toEqual(
      [1, 2, 3, 4, 5, 6].map((at) => `Order ${at}`),
    );
  });

  it('a lost answer is in doubt, listed, and never sent again', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(5) });
    await using server = await FaultServer.start({ stage: 'dot', fault: 'fin', times: 1 });
    const connection = ['--connection', `smtp://127.0.0.1:${server.port}`];
    const first = await place.flowpost([...batch, ...connection, '--concurrency', '1']);
    expect(first.code).toBe(76);
    expect(first.err).toMatch(/In doubt: 1 may have been sent/);
    const again = await place.flowpost([...batch, ...connection, '--resume', '--retry-failed']);
    expect(again.code).toBe(76);
    expect(server.messages).toHaveLength(5);
  });

  it('stops when the login is refused, because it would be for every row', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(50) });
    await using inbox = await SmtpInbox.start({ users: { me: 'right' } });
    const url = (password: string): string => inbox.url.replace('//', `//me:${password}@`);
    const wrong = await place.flowpost([...batch, '--connection', url('wrong')]);
    expect(wrong.code).toBe(77);
    expect(wrong.err).toMatch(/Go on with --resume/);
    expect(inbox.authAttempts.length).toBeLessThan(20);
    const right = await place.flowpost([...batch, '--connection', url('right'), '--resume', '--json']);
    expect(JSON.parse(right.out)).toMatchObject({ sent: 50, deferred: 0 });
    expect(inbox.messages).toHaveLength(50);
  });

  it('rows that are not the ones of the earlier run are not taken for them', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(3) });
    await using inbox = await SmtpInbox.start();
    const run = (...more: string[]) => place.flowpost([...batch, '--connection', inbox.url, ...more]);
    await run();
    await writeFile(place.path('people.csv'), people(3).replace('p2@', 'q2@'));
    const { code, err } = await run('--resume');
    expect([code, inbox.messages.length]).toEqual([65, 3]);
    expect(err).toMatch(/Row 2 is not the one it was/);
  });

  it('a row that was to be sent when the earlier run was killed is known, too: nobody gets it twice when it is gone', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(4) });
    // The second recipient is never answered, so that only the others get theirs.
    await using inbox = await SmtpInbox.start({
      refuse: { rcptTo: (to) => (to === 'p2@x.org' ? new Promise<never>(() => undefined) : undefined) },
    });
    const args = [...batch, '--connection', `${inbox.url}?pipelining=off`];
    const child = place.start(args);
    await expect.poll(() => inbox.messages.length).toBe(3);
    await expect.poll(async () => (await resultsIn(place)).length).toBe(3);
    child.kill('SIGKILL');
    await once(child, 'close');
    await writeFile(place.path('people.csv'), people(4).replace(/^p2@.*\n/m, ''));
    const { code, err } = await place.flowpost([...args, '--resume']);
    expect([code, inbox.messages.length]).toEqual([65, 3]);
    expect(err).toMatch(/Row 2 is not the one it was/);
  });

  it('a line of NDJSON may hold line ends that are none in NDJSON', async () => {
    const row = { email: 'a@x.org', name: 'A\u2028B', number: 1 };
    await using place = await Workplace.make({
      'letter.txt': letter,
      'people.ndjson': `${JSON.stringify(row)}\r\n`,
    });
    await using inbox = await SmtpInbox.start();
    const args = ['batch', '--template', 'letter.txt', '--rows', 'people.ndjson', '--connection', inbox.url];
    expect((await place.flowpost(args)).code).toBe(0);
    expect(inbox.messages).toHaveLength(1);
  });
});

const canMount = spawnSync('unshare', ['-Urm', 'true']).status === 0;

it.runIf(canMount)(
  'a full disk stops it, and what could not be written down is not sent, or in doubt',
  async () => {
    await using place = await Workplace.make({
      'letter.txt': letter,
      'people.csv': people(3_000),
      'out/.keep': '',
    });
    await using inbox = await SmtpInbox.start();
    const args = [...batch, '--connection', inbox.url, '--results', 'out/results.ndjson'];
    // The disk is gone with the process, so it is looked at from within.
    const script =
      'mount -t tmpfs -o size=300k none out && "$@"; echo "exit $?"; cat out/results.ndjson; echo; echo journal; cat out/results.ndjson.journal';
    const { stdout, stderr } = await promisify(execFile)(
      'unshare',
      ['-Urm', 'sh', '-c', script, 'sh', process.execPath, command, ...args],
      { cwd: place.folder, env: cleanEnvironment(place.folder), maxBuffer: 1 << 24 },
    );
    expect(stderr).toMatch(/cannot be written \(ENOSPC\)/);
    const [results = '', journal = ''] = stdout.split(/^journal$/m);
    const ended = [...results.matchAll(/^\{"row":(\d+),.*\}$/gm)].map(([, row]) => Number(row));
    const begun = [...journal.matchAll(/^(\d+) \S{8}$/gm)].map(([, row]) => Number(row));
    const arrived = inbox.messages.map(({ subject }) => Number(subject.replace('Order ', '')));
    expect(arrived.length).toBeGreaterThan(100);
    expect(arrived.filter((row) => !begun.includes(row))).toEqual([]);
    expect(ended.filter((row) => !arrived.includes(row))).toEqual([]);
    expect(new Set(arrived).size).toBe(arrived.length);
    // What was sent and could not be written down is in doubt for whoever comes after.
    const unwritten = arrived.filter((row) => !ended.includes(row));
    expect(stdout).toMatch(unwritten.length > 0 ? /^exit 76$/m : /^exit 75$/m);
  },
  60_000,
);

/** Short for every day, long for the soak. */
const { kills, rows } = process.env.FLOWPOST_SOAK ? { kills: 20, rows: 5_000 } : { kills: 4, rows: 1_500 };

it(`killed ${kills} times in ${rows} rows, everybody gets it once or is listed as in doubt`, async () => {
  await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(rows) });
  await using inbox = await SmtpInbox.start();
  const args = [...batch, '--connection', inbox.url, '--resume', '--json'];
  for (let kill = 0; kill < kills; kill++) {
    const aim = Math.floor(((kill + Math.random()) * rows) / (kills + 1));
    const child = place.start(args);
    while (inbox.messages.length < aim && child.exitCode === null) await delay(1);
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  const { code, out } = await place.flowpost(args);
  const { inDoubt } = JSON.parse(out);
  expect(code).toBe(inDoubt > 0 ? 76 : 0);

  const arrived = inbox.messages.map(({ subject }) => Number(subject.replace('Order ', '')));
  const last = new Map((await resultsIn(place)).map(({ row, state }) => [row, state]));
  const doubtful = [...last].filter(([, state]) => state === 'in-doubt').map(([row]) => row);
  expect(new Set(arrived).size, 'nobody gets it twice').toBe(arrived.length);
  expect(last.size).toBe(rows);
  expect(doubtful).toHaveLength(inDoubt);
  // Five sessions at a time can be caught on the way.
  expect(inDoubt).toBeLessThanOrEqual(kills * 20);
  const missing = Array.from({ length: rows }, (_, at) => at + 1).filter((row) => !arrived.includes(row));
  expect(
    missing.filter((row) => !doubtful.includes(row)),
    'missing and not listed',
  ).toEqual([]);
  process.stdout.write(
    `batch, ${kills} kills in ${rows} rows: ${arrived.length} arrived, ${inDoubt} in doubt\n`,
  );
}, 300_000);

it('one process at a time', async () => {
  await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(2_000) });
  await using inbox = await SmtpInbox.start();
  const first = place.start([...batch, '--connection', inbox.url, '--rate', '1000/s']);
  await inbox.waitForMessages(1);
  const second = await place.flowpost([...batch, '--connection', inbox.url, '--resume']);
  expect(second.err).toMatch(/is in use by another process/);
  expect(second.code).toBe(75);
  first.kill('SIGINT');
  const [code] = await once(first, 'close');
  expect(code).toBe(75);
  const sent = inbox.messages.length;
  expect(sent).toBeLessThan(2_000);
  const { out } = await place.flowpost([...batch, '--connection', inbox.url, '--resume', '--json']);
  expect(JSON.parse(out)).toMatchObject({ sent: 2_000 - sent, inDoubt: 0 });
  expect(inbox.messages).toHaveLength(2_000);
});

it('without the journal nobody can tell who got it, so nothing is sent', async () => {
  await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(3) });
  await using inbox = await SmtpInbox.start();
  const run = (...more: string[]) => place.flowpost([...batch, '--connection', inbox.url, ...more]);
  expect((await run()).code).toBe(0);
  await rm(place.path('people.csv.results.ndjson.journal'));
  const { code, err } = await run('--resume');
  expect([code, inbox.messages.length]).toEqual([64, 3]);
  expect(err).toMatch(/nobody can tell who got it/);
});

it('after the end of a process only what was leaving is in doubt, after that of the machine what was to be sent', async () => {
  for (const isOtherBoot of [false, true]) {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(200) });
    const gate = Promise.withResolvers<undefined>();
    await using inbox = await SmtpInbox.start({ refuse: { message: () => gate.promise } });
    const journal = place.path('people.csv.results.ndjson.journal');
    const child = place.start([...batch, '--connection', inbox.url]);
    const read = (): Promise<string> => readFile(journal, 'utf8').catch(() => '');
    await expect.poll(async () => (await read()).match(/^\d+ /gm)?.length).toBe(5);
    await expect.poll(async () => (await read()).match(/^\+\d+ /gm)?.length).toBe(20);
    child.kill('SIGKILL');
    await once(child, 'close');
    gate.resolve(undefined);
    await inbox.waitForMessages(5);
    if (isOtherBoot) await writeFile(journal, (await read()).replace(/^(run 1) \S+$/m, '$1 another'));
    const { out } = await place.flowpost([...batch, '--connection', inbox.url, '--resume', '--json']);
    const inDoubt = isOtherBoot ? 20 : 5;
    expect(JSON.parse(out)).toMatchObject({ sent: 200 - inDoubt, inDoubt });
  }
});

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { FaultServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { cleanEnvironment, command, Workplace } from './testing/flowpost.test-support.ts';

const letter =
  '---\nfrom: shop@example.com\nto: {{ row.email }}\nsubject: Order {{ row.number }}\n---\nHello\n';
const people = (count: number): string =>
  ['email,number', ...Array.from({ length: count }, (_, at) => `p${at + 1}@x.org,${at + 1}`), ''].join('\n');
const batch = ['batch', '--template', 'letter.txt', '--rows', 'people.csv'];
const place = (rows: number) => Workplace.make({ 'letter.txt': letter, 'people.csv': people(rows) });

async function statesIn(at: Workplace): Promise<Map<number, string>> {
  const lines = (await readFile(at.path('people.csv.results.ndjson'), 'utf8')).trimEnd().split('\n');
  return new Map(lines.map((line) => JSON.parse(line)).map(({ row, state }) => [row, state]));
}

describe('when a batch ends', () => {
  it('Ctrl-C does not wait for the next turn of a rate, and a rate is no burst', async () => {
    await using at = await place(50);
    await using inbox = await SmtpInbox.start();
    const child = at.start([...batch, '--connection', inbox.url, '--rate', '20/h', '--json']);
    await inbox.waitForMessages(1);
    child.kill('SIGINT');
    const [out] = await Promise.all([text(child.stdout), once(child, 'close')]);
    expect(JSON.parse(out)).toMatchObject({ sent: 1, inDoubt: 0 });
    expect(inbox.messages).toHaveLength(1);
  });

  it('Ctrl-C finishes a row whose recipients did not fit into one message', async () => {
    const row = 'email,number\n"a@x.org,b@x.org,c@x.org",1\nd@x.org,2\n';
    await using at = await Workplace.make({ 'letter.txt': letter, 'people.csv': row });
    const got: string[] = [];
    let answerFirst: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => {
      answerFirst = resolve;
    });
    const stopping = Promise.withResolvers<void>();
    await using server = await RawServer.start((socket) => {
      let to = '';
      speakSmtp(socket, (command) => {
        if (command.startsWith('MAIL')) to = '';
        if (command.startsWith('RCPT')) {
          if (to !== '') return '452 4.5.3 Too many recipients';
          to = /<(.*?)>/.exec(command)?.[1] ?? '';
        }
        if (command !== '.' || got.push(to) > 1) return undefined;
        answerFirst();
        void stopping.promise.then(() => socket.write('250 ok\r\n'));
        return null;
      });
    });
    const child = at.start([
      ...batch,
      '--connection',
      `smtp://127.0.0.1:${server.port}?tls=none`,
      '--concurrency',
      '1',
    ]);
    await begun;
    child.kill('SIGINT');
    await once(child.stderr, 'data');
    stopping.resolve();
    await once(child, 'close');
    expect(got).toEqual(['a@x.org', 'b@x.org', 'c@x.org']);
    expect([...(await statesIn(at))]).toEqual([[1, 'sent']]);
  });

  it('but it does not wait for the turn of the rest', async () => {
    await using at = await Workplace.make({
      ...{ 'letter.txt': letter, 'people.csv': 'email,number\n"a@x.org,b@x.org,c@x.org",1\n' },
    });
    await using inbox = await SmtpInbox.start({ recipientsPerMessage: 1 });
    const connection = { host: '127.0.0.1', port: inbox.port, tls: 'none', limits: { messagesPerMinute: 1 } };
    await writeFile(at.path('connection.json'), JSON.stringify(connection));
    const child = at.start([...batch, '--connection', 'connection.json']);
    await inbox.waitForMessages(1);
    child.kill('SIGINT');
    await once(child, 'close');
    expect([...(await statesIn(at))]).toEqual([[1, 'partial']]);
  });

  it('a rate spaces messages evenly', async () => {
    await using at = await place(11);
    await using inbox = await SmtpInbox.start();
    const { out } = await at.flowpost([...batch, '--connection', inbox.url, '--rate', '20/s', '--json']);
    expect(JSON.parse(out).sent).toBe(11);
    expect(JSON.parse(out).seconds).toBeGreaterThanOrEqual(0.45);
  });

  it('--limit does not wait for a row it does not want', async () => {
    await using at = await place(1);
    await using inbox = await SmtpInbox.start();
    const args = ['batch', '--template', 'letter.txt', '--rows', '-', '--results', 'out.ndjson'];
    const child = at.start([...args, '--connection', inbox.url, '--limit', '1']);
    child.stdin.write('email,number\na@x.org,1\nb@x.org');
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(inbox.messages).toHaveLength(1);
  });

  it('Ctrl-C does not wait for more rows', async () => {
    await using at = await place(1);
    await using inbox = await SmtpInbox.start();
    const args = ['batch', '--template', 'letter.txt', '--rows', '-', '--results', 'out.ndjson'];
    const child = at.start([...args, '--connection', inbox.url]);
    child.stdin.write('email,number\na@x.org,1\nb@x.org');
    await inbox.waitForMessages(1);
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([75, null]);
  });
});

describe('what a server does to a batch', () => {
  it('one row it drops the connection at keeps no other from being sent, ever', async () => {
    await using at = await place(12);
    const taken: string[] = [];
    await using server = await RawServer.start((socket) => {
      let to = '';
      speakSmtp(socket, (line) => {
        if (line.startsWith('RCPT')) to = /<(.*)>/.exec(line)?.[1] ?? '';
        if (line === 'DATA' && to === 'p2@x.org') socket.destroy();
        if (line === '.') taken.push(to);
        return undefined;
      });
    });
    const url = `smtp://127.0.0.1:${server.port}`;
    await writeFile(at.path('letter.txt'), letter.replace('---\nHello', 'retry: {attempts: 1}\n---\nHello'));
    const run = (...more: string[]) =>
      at.flowpost([...batch, '--connection', url, '--json', '--concurrency', '1', ...more]);
    const first = await run('--limit', '6');
    expect([first.code, JSON.parse(first.out)]).toMatchObject([75, { sent: 5, deferred: 1 }]);
    expect(JSON.parse((await run('--resume')).out)).toMatchObject({ sent: 6, deferred: 1 });
    expect(taken).toEqual([1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map((row) => `p${row}@x.org`));
  });

  it('answers that are lost again and again stop it; to send those again has to be asked for', async () => {
    await using at = await place(40);
    await using server = await FaultServer.start({ stage: 'dot', fault: 'fin', times: 5 });
    const run = (...more: string[]) =>
      at.flowpost([
        ...[...batch, '--connection', `smtp://127.0.0.1:${server.port}`, '--concurrency', '1', '--json'],
        ...more,
      ]);
    const first = await run();
    expect(first.code).toBe(76);
    expect(JSON.parse(first.out)).toMatchObject({ rows: 5, inDoubt: 5, stoppedBy: { inDoubt: true } });
    expect(JSON.parse((await run('--resume')).out)).toMatchObject({ sent: 35, inDoubt: 5 });
    expect(JSON.parse((await run('--resume', '--retry-in-doubt')).out)).toMatchObject({
      sent: 5,
      inDoubt: 0,
    });
    expect(server.messages).toHaveLength(45);
  });

  it('rows that are left alone for one in doubt do not stop it', async () => {
    const guarded = letter.replace('subject:', 'duplicateWindowMs: 60000\nsubject:');
    const same = 'p1@x.org,1\n'.repeat(6);
    await using at = await Workplace.make({
      'letter.txt': guarded,
      'people.csv': `email,number\n${same}p7@x.org,7\n`,
    });
    await using server = await FaultServer.start({ stage: 'dot', fault: 'fin', times: 1 });
    const url = `smtp://127.0.0.1:${server.port}?tls=none`;
    const { code, out } = await at.flowpost([...batch, '--connection', url, '--concurrency', '1', '--json']);
    expect([code, JSON.parse(out)]).toMatchObject([76, { sent: 1, rows: 7 }]);
    expect(JSON.parse(out)).not.toHaveProperty('stoppedBy');
  });

  it('doubt stays until a row was sent, whatever becomes of another attempt', async () => {
    await using at = await place(2);
    await using server = await FaultServer.start({ stage: 'dot', fault: 'fin', times: 2 });
    const run = (port: number, ...more: string[]) =>
      at.flowpost([...batch, '--connection', `smtp://127.0.0.1:${port}`, '--json', ...more]);
    expect(JSON.parse((await run(server.port)).out)).toMatchObject({ inDoubt: 2 });
    const away = await run(1, '--resume', '--retry-in-doubt');
    expect([away.code, JSON.parse(away.out)]).toMatchObject([76, { inDoubt: 2, deferred: 0 }]);
    expect(JSON.parse((await run(server.port, '--resume')).out)).toMatchObject({ sent: 0, inDoubt: 2 });
    expect(server.messages).toHaveLength(2);
  });

  it('a message that is leaving has its time, and no more', async () => {
    await using at = await place(1);
    await writeFile(at.path('letter.txt'), letter.replace('---\nHello', 'timeoutMs: 1000\n---\nHello'));
    await using server = await FaultServer.start({ stage: 'dot', fault: 'silence' });
    const { code, out } = await at.flowpost([
      ...[...batch, '--connection', `smtp://127.0.0.1:${server.port}`, '--json'],
    ]);
    expect([code, JSON.parse(out)]).toMatchObject([76, { inDoubt: 1 }]);
  });

  it('what it says cannot command a terminal', async () => {
    await using at = await place(1);
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (line) => (line === '.' ? '550 \x1b]0;owned\x07\x1b[2J no' : undefined)),
    );
    const { err } = await at.flowpost([...batch, '--connection', `smtp://127.0.0.1:${server.port}`]);
    expect(err).toContain('no');
    expect(err).not.toMatch(/[\x00-\x08\x0b-\x1f]/);
  });
});

describe('files', () => {
  it('of somebody else are not touched', async () => {
    await using at = await place(1);
    await at.write('notes.txt', 'dear diary');
    const args = [...batch, '--connection', 'smtp://127.0.0.1:1', '--results', 'notes.txt', '--resume'];
    await at.write('notes.txt.journal', '');
    expect((await at.flowpost(args)).code).toBe(65);
    expect(await readFile(at.path('notes.txt'), 'utf8')).toBe('dear diary');
  });

  it('that cannot be what they are said to be are mistakes, not defects', async () => {
    await using at = await place(1);
    for (const results of ['nowhere/out.ndjson', '.']) {
      const args = [...batch, '--connection', 'smtp://127.0.0.1:1', '--results', results, '--resume'];
      expect([64, 65]).toContain((await at.flowpost(args)).code);
    }
  });

  it('in another encoding than UTF-8 are refused', async () => {
    await using at = await place(1);
    await writeFile(at.path('people.csv'), Buffer.from('email,number\nj\xf6rg@x.org,1\n', 'latin1'));
    const { code, err } = await at.flowpost([...batch, '--dry-run']);
    expect([code, err]).toEqual([65, expect.stringContaining('is not UTF-8')]);
  });

  it('a template keeps the text of a block as it is', async () => {
    await using at = await place(1);
    const settings = 'text: |\n  {{ row.number }}\n  - {{ row.email }}\nto: {{ row.email }}';
    await at.write('letter.txt', `---\nfrom: a@x.org\nsubject: Hi\n${settings}\n---\n`);
    await using inbox = await SmtpInbox.start();
    expect((await at.flowpost([...batch, '--connection', inbox.url])).code).toBe(0);
    expect(inbox.messages[0]?.text).toBe('1\n- p1@x.org\n');
  });

  it('a template that is no YAML does not give away what is in it', async () => {
    await using at = await place(1);
    await at.write('letter.txt', '---\nconnection: *smtp://me:pw@h\nto: a@x.org\n---\nHi');
    const { code, err } = await at.flowpost(batch);
    expect([code, err]).toEqual([65, expect.stringContaining('not valid YAML')]);
    expect(err).not.toContain('pw');
  });
});

it('rows that come over a pipe are resumed as well', async () => {
  await using at = await place(3);
  await using inbox = await SmtpInbox.start();
  const pipe = (url: string, ...more: string[]): Promise<number> =>
    new Promise((done) => {
      const line = 'cat people.csv | "$@"';
      const args = ['batch', '--template', 'letter.txt', '--rows', '/dev/stdin', '--results', 'out.ndjson'];
      const all = [process.execPath, command, ...args, '--connection', url, ...more];
      const options = { cwd: at.folder, env: cleanEnvironment(at.folder) };
      spawn('sh', ['-c', line, 'sh', ...all], options).once('close', done);
    });
  expect(await pipe('smtp://127.0.0.1:1', '--concurrency', '1')).toBe(75);
  expect(await pipe(inbox.url, '--resume')).toBe(0);
  expect(inbox.messages).toHaveLength(3);
});

it('an interrupted dry run says how far it got', async () => {
  await using at = await place(1);
  const args = ['batch', '--template', 'letter.txt', '--rows', '-', '--format', 'ndjson', '--dry-run'];
  const child = at.start([...args, '--json', '--verbose']);
  child.stdin.write('{"email":"a@x.org","number":1}\n');
  child.stderr.once('data', () => child.kill('SIGINT'));
  const [out, [code]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  expect([code, JSON.parse(out)]).toEqual([75, { composed: 1, failed: 0 }]);
});

it('results through a link to a file that is not there yet can be resumed', async () => {
  await using at = await place(2);
  await using inbox = await SmtpInbox.start();
  await at.write('real/.keep', '');
  await symlink('real/out.ndjson', at.path('link.ndjson'));
  const args = [...batch, '--connection', inbox.url, '--results', 'link.ndjson'];
  expect((await at.flowpost(args)).code).toBe(0);
  expect((await at.flowpost([...args, '--resume'])).code).toBe(0);
  expect(inbox.messages).toHaveLength(2);
});

const hasNamespaces = spawnSync('unshare', ['-Urpf', '--mount-proc', 'true']).status === 0;

it.runIf(hasNamespaces)(
  'one process at a time, in another container as well',
  async () => {
    await using at = await place(2_000);
    await using inbox = await SmtpInbox.start();
    const first = at.start([...batch, '--connection', inbox.url, '--rate', '10/s']);
    await inbox.waitForMessages(1);
    const args = [process.execPath, command, ...batch, '--connection', inbox.url, '--resume'];
    const second = spawn('unshare', ['-Urpf', '--mount-proc', ...args], {
      ...{ cwd: at.folder, env: cleanEnvironment(at.folder) },
    });
    const [err, [code]] = await Promise.all([text(second.stderr), once(second, 'close')]);
    expect([code, err]).toEqual([75, expect.stringContaining('is in use by another process')]);
    first.kill('SIGINT');
    await once(first, 'close');
    const states = [...(await statesIn(at)).values()];
    expect(states.filter((state) => state === 'sent')).toHaveLength(inbox.messages.length);
  },
  30_000,
);

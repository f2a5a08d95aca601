import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, chown, open, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { cleanEnvironment, command, message, password, Workplace } from './testing/flowpost.test-support.ts';

const letter = '---\nfrom: a@x.org\nto: {{ row.email }}\nsubject: Hi\n---\nHello\n';
const batch = (connection: string, ...more: string[]) => [
  ...['batch', '--connection', connection, '--template', 'letter.txt', '--rows', 'rows.csv', ...more],
];
/** Runs a line of shell, with the command in $FP. */
function shell(place: Workplace, line: string, env: NodeJS.ProcessEnv = {}) {
  const all = cleanEnvironment(place.folder, { ...env, NODE: process.execPath, FP: command });
  return spawnSync('bash', ['-c', line], { cwd: place.folder, env: all, encoding: 'utf8', timeout: 25_000 });
}

describe('somebody who is refused', () => {
  const gone = {
    rcptTo: (address: string) => (address === 'gone@x.org' ? { code: 550, text: '5.1.1 no' } : undefined),
  };

  it('is heard of, and the exit code says so', async () => {
    await using inbox = await SmtpInbox.start({ refuse: gone });
    await using place = await Workplace.make({
      'letter.txt': letter,
      'rows.csv': 'email\n"b@x.org, gone@x.org"\n',
    });
    const to = ['--from', 'a@x.org', '--to', 'b@x.org,gone@x.org', '--text', 'x'];
    const send = await place.flowpost(['send', '--connection', inbox.url, ...to, '--quiet']);
    expect([send.code, send.err]).toEqual([
      69,
      expect.stringContaining('refused: gone@x.org (550 5.1.1 no)'),
    ]);
    const { code, out } = await place.flowpost(['send', '--connection', inbox.url, ...to, '--json']);
    expect([code, JSON.parse(out).status]).toEqual([69, 'partial']);
    const rows = await place.flowpost(batch(inbox.url, '--quiet'));
    expect([rows.code, rows.err]).toEqual([69, 'Row 1: partial: refused: gone@x.org (550 5.1.1 no)\n']);
  });
});

describe('text in files', () => {
  it.each([
    ['Latin-1', Buffer.from('Gr\xfc\xdfe', 'latin1')],
    ['UTF-16', Buffer.from('\ufeffGrüße', 'utf16le')],
  ])('in %s is refused, not destroyed', async (_, bytes) => {
    await using place = await Workplace.make({ 'rows.csv': 'email\na@x.org\n' });
    for (const name of ['text.txt', 'letter.txt']) await writeFile(place.path(name), bytes);
    const preview = ['preview', '--from', 'a@x.org', '--to', 'b@x.org'];
    expect((await place.flowpost([...preview, '--text', '@text.txt'])).err).toContain('is not UTF-8');
    expect(shell(place, `"$NODE" "$FP" ${preview.join(' ')} --text @- < text.txt`).status).toBe(65);
    expect((await place.flowpost(batch('smtp://127.0.0.1:1', '--dry-run'))).code).toBe(65);
    const key = (await place.flowpost(['secret', 'keygen'])).out.trim();
    expect(shell(place, '"$NODE" "$FP" secret encrypt < text.txt', { FLOWPOST_KEYS: key }).status).toBe(65);
  });

  it('may begin with a byte order mark', async () => {
    await using inbox = await SmtpInbox.start();
    await using place = await Workplace.make({ 'text.txt': '\ufeffHello' });
    await place.write('connection.json', `\ufeff${JSON.stringify({ host: '127.0.0.1', port: inbox.port })}`);
    const send = ['send', '--connection', 'connection.json', '--from', 'a@x.org', '--to', 'b@x.org'];
    expect((await place.flowpost([...send, '--text', '@text.txt'])).code).toBe(0);
    expect(inbox.messages[0]?.text?.trim()).toBe('Hello');
  });
});

describe('a template', () => {
  it('begins with its settings', async () => {
    await using place = await Workplace.make({
      'letter.txt': `Dear reader,\n${letter}`,
      'rows.csv': 'email\na@x.org\n',
    });
    const { code, err } = await place.flowpost(batch('smtp://127.0.0.1:1', '--dry-run'));
    expect([code, err]).toEqual([65, expect.stringContaining('it does not begin with settings')]);
    await place.write('letter.txt', `\n\n${letter}`);
    expect((await place.flowpost(batch('smtp://127.0.0.1:1', '--dry-run'))).code).toBe(0);
  });

  it.each([
    ['subject: Your order #{{ row.email }} has shipped', 65],
    ['subject: Order #{{ row.email }} and # {{ row.email }}', 65],
    ['subject: {{ row.email }}, your order #{{ row.email }} has shipped', 65],
    ['subject: {{ row.email }} #{{ row.email }}', 65],
    ['subject: Your order\n  #{{ row.email }} has shipped', 65],
    ['subject: {{ row.email }}\n  #{{ row.email }}', 65],
    ['subject: "Your order #{{ row.email }}"', 0],
    ['subject: >-\n  Your order #{{ row.email }}', 0],
    ['subject: Hello # no name', 0],
    ['subject: &s "Your order #{{ row.email }}"', 0],
    ['headers: { X-Order: "Your order #{{ row.email }}" }', 0],
    ['headers:\n  X.Order: "Your order #{{ row.email }}"', 0],
    ['headers: { X-Order: Your order #{{ row.email }} }', 65],
    ['# subject: {{ row.email }}', 0],
    ['replyTo: {{ row.email }} # where {{ row.email }} reads', 65],
    ['replyTo: {{ row.email }} # where answers go', 0],
  ])('%s', async (line, code) => {
    await using place = await Workplace.make({
      'letter.txt': `---\nfrom: a@x.org\nto: {{ row.email }}\n${line}\n---\nHello\n`,
      'rows.csv': 'email\nb@x.org\n',
    });
    const result = await place.flowpost(batch('smtp://127.0.0.1:1', '--dry-run'));
    expect([result.code, /line [45] ends at the #/.test(result.err)]).toEqual([code, code !== 0]);
  });

  it('keeps comments to itself, and folded values whole', async () => {
    await using inbox = await SmtpInbox.start();
    await using place = await Workplace.make({
      'letter.txt': [
        ...['---', 'from: a@x.org', 'to:', '  - {{ row.email }}  # the boss', 'cc:', '  {{ row.email }}'],
        ...[
          'subject: Order',
          '  {{ row.n }}',
          'headers:',
          '  X-Id: {{ row.n }} # ours',
          '  X-No: {{ row.n }}#1',
        ],
        ...['  X-Two: {{ row.n }} {{ row.n | append: " # " }}{{ row.n }}', '---', 'Hello'],
      ].join('\n'),
      'rows.csv': 'email,n\nb@x.org,42\n',
    });
    expect((await place.flowpost(batch(inbox.url))).code).toBe(0);
    const [mail] = inbox.messages;
    expect([mail?.subject, mail?.cc.map(({ address }) => address)]).toEqual(['Order 42', ['b@x.org']]);
    const raw = mail?.raw.toString() ?? '';
    for (const line of ['X-Id: 42', 'X-No: 42#1', 'X-Two: 42 42 # 42']) expect(raw).toContain(`${line}\r\n`);
  });
});

it('lines of a table may end in any way', async () => {
  await using inbox = await SmtpInbox.start();
  await using place = await Workplace.make({
    'letter.txt': letter,
    'rows.csv': 'email\r\na@x.org\r\nb@x.org\nc@x.org\n',
  });
  expect((await place.flowpost(batch(inbox.url))).code).toBe(0);
  expect(inbox.messages.map(({ envelope }) => envelope.to[0]).toSorted()).toEqual([
    'a@x.org',
    'b@x.org',
    'c@x.org',
  ]);
});

it('results that are damaged are said to be', async () => {
  await using place = await Workplace.make({ 'letter.txt': letter, 'rows.csv': 'email\na@x.org\n' });
  await place.write(
    'rows.csv.results.ndjson',
    '{"row":99999999999,"key":"gwulZYhz","run":1,"state":"sent"}\n',
  );
  await place.write('rows.csv.results.ndjson.journal', 'run 1 x\n');
  expect((await place.flowpost(batch('smtp://127.0.0.1:1', '--resume'))).code).toBe(65);
});

it.runIf(process.getuid?.() === 0)('a file whose secrets are rotated keeps its owner', async () => {
  await using place = await Workplace.make();
  const FLOWPOST_KEYS = (await place.flowpost(['secret', 'keygen', 'old'])).out.trim();
  const encrypted = (await place.flowpost(['secret', 'encrypt'], { FLOWPOST_KEYS }, password)).out;
  await place.write('config.yaml', `password: ${encrypted}`);
  await chown(place.path('config.yaml'), 0, 12_345);
  await chmod(place.path('config.yaml'), 0o640);
  const fresh = (await place.flowpost(['secret', 'keygen', 'new'])).out.trim();
  const keys = { FLOWPOST_KEYS: `${fresh},${FLOWPOST_KEYS}` };
  expect((await place.flowpost(['secret', 'rotate', 'config.yaml'], keys)).code).toBe(0);
  const { gid, mode } = await stat(place.path('config.yaml'));
  expect([gid, mode & 0o777]).toEqual([12_345, 0o640]);
});

describe('in a shell', () => {
  it('whoever has read enough of a preview causes no failure', async () => {
    await using place = await Workplace.make();
    await writeFile(place.path('big.bin'), Buffer.alloc(3_000_000));
    const line =
      '"$NODE" "$FP" preview --from a@x.org --to b@x.org --text y --attach big.bin | head -c 10; exit $PIPESTATUS';
    expect(shell(place, line)).toMatchObject({ status: 0, stderr: '' });
  });

  it('a pipe is no file to attach, and a folder that is gone is no defect', async () => {
    await using place = await Workplace.make();
    const send = '"$NODE" "$FP" preview --from a@x.org --to b@x.org --text y';
    const pipe = shell(place, `${send} --attach <(echo hi)`);
    expect([pipe.status, pipe.stderr]).toEqual([66, expect.stringContaining('it is not a regular file')]);
    expect(shell(place, `mkdir gone && cd gone && rmdir ../gone && ${send}`).status).toBe(0);
  });

  it('rows from a pipe that stays open keep nobody when enough are sent', async () => {
    await using inbox = await SmtpInbox.start();
    await using place = await Workplace.make({ 'letter.txt': letter });
    execFileSync('mkfifo', [join(place.folder, 'pipe')]);
    // Both ends, so that it stays open whoever reads.
    await using pipe = await open(join(place.folder, 'pipe'), 'r+');
    await pipe.write('email\na@x.org\nb@x.org\n');
    const args = ['--template', 'letter.txt', '--rows', 'pipe', '--results', 'done', '--limit', '1'];
    const { code, err } = await place.flowpost(['batch', '--connection', inbox.url, ...args]);
    expect([code, err]).toEqual([0, expect.stringContaining('1 sent')]);
  });

  it('attachments a file names may come from further folders when the command line says so', async () => {
    await using elsewhere = await Workplace.make({ 'note.txt': 'hi' });
    await using place = await Workplace.make();
    const attachments = [{ kind: 'file', path: join(elsewhere.folder, 'note.txt') }];
    const settings = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x', attachments };
    await place.write('step.json', JSON.stringify({ node: 'send-email', settings }));
    const preview = ['preview', 'step.json', '--connection', 'smtp://127.0.0.1:1', '--summary'];
    expect((await place.flowpost(preview)).code).toBe(66);
    const allowed = await place.flowpost([...preview, '--files', elsewhere.folder]);
    expect([allowed.code, allowed.out]).toEqual([0, expect.stringContaining('note.txt')]);
  });

  it('a variable that is not set is no connection, and a folder for tokens no reason to need keys', async () => {
    await using inbox = await SmtpInbox.start();
    await using place = await Workplace.make();
    const { code, err } = await place.flowpost(['send', '--connection', '', ...message], {
      FLOWPOST_CONNECTION: inbox.url,
    });
    expect([code, err]).toEqual([64, expect.stringContaining('--connection is empty')]);
    const send = ['send', '--connection', inbox.url, ...message];
    expect((await place.flowpost(send, { FLOWPOST_TOKENS: place.folder })).code).toBe(0);
  });

  it('a password command may leave a helper running, has nothing to read, and may print notes below', async () => {
    await using inbox = await SmtpInbox.start({ users: { me: password } });
    await using place = await Workplace.make();
    for (const passwordCommand of [
      `(sleep 60 &) ; echo '${password}'`,
      `head -n1; echo '${password}'`,
      `printf '${password}\\nnotes: caf\\351\\n'`,
    ]) {
      const auth = { kind: 'basic', username: 'me', passwordCommand };
      await place.write('c.json', JSON.stringify({ host: '127.0.0.1', port: inbox.port, auth }));
      expect((await place.flowpost(['send', '--connection', 'c.json', ...message])).code).toBe(0);
    }
  });
});

import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmod, rm, symlink, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { keyOf } from './batch/row-memory.ts';
import { cleanEnvironment, command, message, Workplace } from './testing/flowpost.test-support.ts';

/** Runs a line of shell beside the servers of this process, with the command in $FP. */
async function shell(place: Workplace, line: string, more: NodeJS.ProcessEnv = {}) {
  const env = cleanEnvironment(place.folder, { ...more, NODE: process.execPath, FP: command });
  return promisify(execFile)('bash', ['-c', line], { cwd: place.folder, env }).then(
    ({ stderr }) => ({ status: 0, stderr }),
    ({ code, stderr }: { code: number; stderr: string }) => ({ status: code, stderr }),
  );
}

const to = ['--from', 'a@x.org', '--to', 'b@x.org', '--text', 'x'];
const letter = '---\nfrom: a@x.org\nto: {{ row.email }}\nsubject: Order {{ row.id }}\n---\nHello\n';

describe('what is typed', () => {
  it('--help is the value of an option that wants one, and help otherwise', async () => {
    await using inbox = await SmtpInbox.start();
    await using place = await Workplace.make();
    const send = ['send', '--connection', inbox.url, ...to];
    expect((await place.flowpost([...send, '--subject', '--help'])).code).toBe(64);
    expect((await place.flowpost([...send, '--subject=--help'])).code).toBe(0);
    expect(inbox.messages.map(({ subject }) => subject)).toEqual(['--help']);
    for (const args of [['--help'], ['--help', '--nonsense'], ['--subject', 'x', '--help']]) {
      const { code, out } = await place.flowpost(['send', ...args]);
      expect([code, out]).toEqual([0, expect.stringContaining('Usage')]);
    }
  });

  it('and is not UTF-8 is refused, not destroyed', async () => {
    await using inbox = await SmtpInbox.start();
    await using place = await Workplace.make();
    const line = `"$NODE" "$FP" send --connection ${inbox.url} ${to.join(' ')} --subject`;
    const send = (subject: string) => shell(place, `${line} "$(printf '${subject}')"`);
    const latin = await send('Gr\\xf6\\xdfe');
    // Only where the system says what was typed.
    if (process.platform === 'linux')
      expect([latin.status, latin.stderr]).toEqual([64, expect.stringContaining('UTF-8')]);
    expect((await send('\\xef\\xbf\\xbd')).status).toBe(0);
    expect(inbox.messages.at(-1)?.subject).toBe('\ufffd');
  });
});

it('numbers go out as they were written', async () => {
  await using inbox = await SmtpInbox.start();
  const flow = '{ "input": { "order": 12345678901234567890, "price": 1.5 } }';
  const step = `{ "node": "send-email", "settings": { "connection": ${JSON.stringify(inbox.url)}, "from": "a@x.org",
    "to": "b@x.org", "subject": "{{ input.order }} {{ input.price }}" }, "flow": ${flow} }`;
  const template = `---\nfrom: a@x.org\nto: {{ row.email }}\nsubject: 0042\nheaders:\n  X-V: 1.10\n---\nHello\n`;
  await using place = await Workplace.make({
    ...{ 'step.json': step, 'letter.txt': template, 'people.csv': 'email\nb@x.org\n' },
  });
  const via = ['--connection', inbox.url];
  for (const args of [
    ['run', 'step.json'],
    ['batch', '--template', 'letter.txt', '--rows', 'people.csv', ...via],
    [
      'send',
      ...to,
      ...via,
      '--set',
      'subject=1.50',
      '--set',
      'timeoutMs=1e4',
      '--set',
      'headers={"X-O":12345678901234567890}',
    ],
  ])
    expect(await place.flowpost(args)).toMatchObject({ code: 0 });
  expect(inbox.messages.map(({ subject }) => subject)).toEqual(['12345678901234567890 1.5', '0042', '1.50']);
  expect(`${inbox.messages[1]?.raw}`).toContain('X-V: 1.10\r\n');
  expect(`${inbox.messages[2]?.raw}`).toContain('X-O: 12345678901234567890\r\n');
});

it('a password command ends with whoever waits for it', async () => {
  await using place = await Workplace.make();
  const auth = { kind: 'basic', username: 'me', passwordCommand: 'echo $$ > pid; sleep 300' };
  await writeFile(`${place.folder}/slow.json`, JSON.stringify({ host: '127.0.0.1', port: 1, auth }));
  const line = `"$NODE" "$FP" verify --connection slow.json & p=$!; until [ -s pid ]; do sleep 0.05; done; kill $p; wait $p;
    for n in $(seq 100); do kill -0 -$(cat pid) 2>/dev/null || { echo gone >&2; exit 0; }; sleep 0.05; done; exit 1`;
  expect(await shell(place, line)).toMatchObject({ status: 0, stderr: expect.stringContaining('gone') });
});

it('a folder that is gone is no defect of a batch or a step', async () => {
  await using inbox = await SmtpInbox.start();
  const step = { node: 'send-email', settings: { from: 'a@x.org', to: 'b@x.org', text: 'x' } };
  await using place = await Workplace.make({
    'letter.txt': letter,
    'rows.csv': 'email,id\nb@x.org,1\n',
    'step.json': JSON.stringify(step),
  });
  for (const args of [
    'batch --connection "$C" --template "$P/letter.txt" --rows "$P/rows.csv" --results "$P/results"',
    'run "$P/step.json" --connection "$C"',
  ]) {
    const line = `mkdir gone; cd gone; rmdir ../gone; "$NODE" "$FP" ${args}`;
    const { status, stderr } = await shell(place, line, { P: place.folder, C: inbox.url });
    expect([status, stderr]).toEqual([0, expect.not.stringContaining('defect')]);
  }
  expect(inbox.messages).toHaveLength(2);
});

it.each([
  ['eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoiayJ9', false],
  ['hunter2', true],
])('a password %s in a URL that others can read is warned of: %s', async (secret, warns) => {
  await using place = await Workplace.make();
  await writeFile(place.path('c.yaml'), `connections:\n  u: "smtp://u:${secret}@127.0.0.1:1"\n`);
  await chmod(place.path('c.yaml'), 0o644);
  const { err } = await place.flowpost(['preview', '--config', 'c.yaml', '--connection', '@u', ...message]);
  expect(err.includes('password in clear')).toBe(warns);
});

it('what a warning of a key that others can read says to do can be done', async () => {
  await using place = await Workplace.make();
  const key = { domain: 'x.org', selector: 's', privateKey: '-----BEGIN' };
  const connections = JSON.stringify({ work: { host: 'h', dkim: [key] } });
  await place.write('flowpost.connections.json', connections);
  await chmod(place.path('flowpost.connections.json'), 0o644);
  const { err } = await place.flowpost(['preview', '--connection', '@work', ...message]);
  // Such a file may run no commands.
  expect(err).toMatch(/Warning: .*chmod 600 it, or move the connection into your own configuration/);
});

it('no part of a login is shown of an option that is none', async () => {
  await using place = await Workplace.make();
  for (const option of ['--smtp://me:HUN@localhost?tls=none', '--smtps://me:HUN=TER2@h', '-x:HUN=T@h']) {
    for (const json of [[], ['--json']]) {
      const { code, out, err } = await place.flowpost(['verify', option, ...json]);
      expect([code, out + err]).toEqual([64, expect.not.stringContaining('HUN')]);
    }
  }
});

it.runIf(process.platform === 'linux')(
  'a folder that cannot be made is said to be none, at once',
  async () => {
    await using place = await Workplace.make();
    const catching = await place.flowpost(['catch', '--port', '0', '--dir', '/proc/none/deeper']);
    expect([catching.code, catching.err]).toEqual([
      64,
      expect.stringContaining('cannot be a folder (ENOENT)'),
    ]);
  },
);

it('catch refuses logins without knowing anybody', async () => {
  await using place = await Workplace.make();
  await using catching = await place.catching(['--refuse', 'auth:535']);
  const url = catching.url.replace('//', '//u:p@');
  const { code, err } = await place.flowpost(['send', '--connection', url, ...message]);
  expect([code, err]).toEqual([77, expect.stringContaining('AUTH_REFUSED')]);
});

it('a server whose TLS is away for a while is one to try later, and its reply is shown', async () => {
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (said) => {
      if (said.startsWith('EHLO')) return '250-x\r\n250 STARTTLS';
      return said === 'STARTTLS' ? '454 4.7.0 TLS not available' : undefined;
    }),
  );
  await using place = await Workplace.make();
  const connection = ['--connection', `smtp://127.0.0.1:${server.port}?tls=starttls`];
  for (const args of [
    ['verify', ...connection],
    ['send', ...connection, ...message],
  ]) {
    const { code, err } = await place.flowpost(args);
    expect([code, err]).toEqual([75, expect.stringContaining('454 4.7.0 TLS not available')]);
  }
});

it('numbers of NDJSON that JavaScript does not have go out as they are written', async () => {
  await using inbox = await SmtpInbox.start();
  await using place = await Workplace.make({
    'letter.txt': letter.replace('{{ row.id }}', '{{ row.id }} {{ row.n }} {{ row.big }} {{ row.price }}'),
    'rows.ndjson':
      '{"email":"b@x.org","id":1234567890123456789,"n":12345678901234567,"big":1e400,"price":10.50}\n',
  });
  const args = ['--template', 'letter.txt', '--rows', 'rows.ndjson'];
  expect((await place.flowpost(['batch', '--connection', inbox.url, ...args])).code).toBe(0);
  expect(inbox.messages[0]?.subject).toBe('Order 1234567890123456789 12345678901234567 1e400 10.5');
});

it('a row that was leaving in the 65,540th run is in doubt', async () => {
  await using inbox = await SmtpInbox.start();
  await using place = await Workplace.make({ 'letter.txt': letter, 'rows.csv': 'email,id\nb@x.org,1\n' });
  const key = keyOf({ email: 'b@x.org', id: '1' });
  await place.write('r', `{"row":1,"key":"${key}","run":65539,"state":"deferred","error":{}}\n`);
  const before = `run 65539 B\n+1 ${key}\n1 ${key}\n`;
  await place.write('r.journal', `${before}run 65540 B\n+1 ${key}\n1 ${key}\n`);
  const args = ['--template', 'letter.txt', '--rows', 'rows.csv', '--results', 'r', '--resume'];
  expect((await place.flowpost(['batch', '--connection', inbox.url, ...args])).code).toBe(76);
  expect(inbox.messages).toEqual([]);
});

it('run --watch sees what a link leads to', async () => {
  await using place = await Workplace.make();
  const step = (subject: string): string =>
    JSON.stringify({
      node: 'send-email',
      settings: { connection: 'smtp://h', from: 'a@x.org', to: 'b@x.org', subject, text: 'x' },
    });
  for (const version of ['v1', 'v2']) await place.write(`${version}/step.json`, step(`from ${version}`));
  await symlink('v1', place.path('current'));
  await symlink('current/step.json', place.path('step.json'));
  const child = place.start(['run', 'step.json', '--watch']);
  let shown = '';
  child.stdout.on('data', (data) => {
    shown += data;
  });
  await expect.poll(() => shown).toContain('from v1');
  await rm(place.path('current'));
  await symlink('v2', place.path('current'));
  await expect.poll(() => shown).toContain('from v2');
  child.kill('SIGTERM');
});

it('a preview is signed as the message will be, whoever prints the key', async () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await using place = await Workplace.make({
    'key.pem': privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    'c.yaml':
      'connections:\n  d: { host: h, dkim: { domain: x.org, selector: s, privateKeyCommand: cat key.pem } }\n' +
      '  list: { host: h, dkim: [{ domain: x.org, selector: s, privateKeyCommand: cat key.pem }] }\n',
  });
  for (const name of ['@d', '@list']) {
    const args = ['preview', '--config', 'c.yaml', '--connection', name, ...message];
    const { code, out } = await place.flowpost(args);
    expect([code, out]).toEqual([0, expect.stringContaining('DKIM-Signature: v=1; a=rsa-sha256;')]);
  }
});

it('catch --dir goes on after files whose names are no numbers of its own', async () => {
  await using place = await Workplace.make({ 'in/20240101123045123.eml': 'x', 'in/7.eml': 'x' });
  await using catching = await place.catching(['--dir', 'in']);
  for (const name of ['0008.eml', '0009.eml']) {
    expect((await place.flowpost(['send', '--connection', catching.url, ...message])).code).toBe(0);
    expect((await catching.next()).file).toMatch(new RegExp(`${name}$`));
  }
});

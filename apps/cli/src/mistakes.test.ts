import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { lstat, open, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { HttpServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { command, message, Workplace } from './testing/flowpost.test-support.ts';

const full = '/dev/full';

describe.runIf(existsSync(full))('a disk that is full', () => {
  it.each([[['secret', 'keygen']], [['services']], [['completion', 'bash']]])(
    '%s does not claim to have printed anything',
    async (args) => {
      await using place = await Workplace.make();
      await using output = await open(full, 'w');
      const child = spawn(process.execPath, [command, ...args], {
        cwd: place.folder,
        stdio: ['ignore', output.fd, 'pipe'],
      });
      const [said, [code]] = await Promise.all([text(child.stderr as Readable), once(child, 'close')]);
      expect([code, said]).toEqual([75, expect.stringContaining('ENOSPC')]);
    },
  );
});

it('quiet is quiet about everything but what went wrong', async () => {
  await using place = await Workplace.make();
  const { code, err } = await place.flowpost(['verify', '--connection', 'smtp://127.0.0.1:1', '--quiet']);
  expect([code, err]).toEqual([75, expect.stringMatching(/^failed +tcp/)]);
});

it('a picture that is called after nothing stays where it is in a preview', async () => {
  await using place = await Workplace.make();
  const html = ['--html', '<img src="cid:50%">', '--html-out', 'page.html'];
  const result = await place.flowpost([
    'preview',
    '--from',
    'a@x.org',
    '--to',
    'b@x.org',
    '--subject',
    'x',
    ...html,
  ]);
  expect([result.code, await readFile(place.path('page.html'), 'utf8')]).toEqual([
    0,
    expect.stringContaining('cid:50%'),
  ]);
});

describe('somebody without a home', () => {
  it('can use what needs none, and nothing is put where the command happens to run', async () => {
    await using place = await Workplace.make();
    for (const home of ['', 'relative']) {
      const env = { HOME: home, NODE_COMPILE_CACHE: '' };
      expect((await place.flowpost(['--version'], env)).code).toBe(0);
      expect((await place.flowpost(['verify', '--connection', '@work'], env)).code).toBe(78);
    }
    expect(await readdir(place.folder)).toEqual([]);
  });
});

describe('a password that was mistyped into the wrong place', () => {
  const url = 'me:s3cr3t@mail.example.com';
  it.each([
    ['a connection without its scheme', ['send', '--connection', url, ...message]],
    ['a connection with half a scheme', ['send', '--connection', `smtp//${url}`, ...message]],
    ['a name that is a URL', ['send', '--connection', `@smtps://${url}`, ...message]],
    ['an operand', ['send', `smtps://${url}`, ...message]],
    ['a command', [`smtps://${url}`]],
    ['an option', ['send', `--smtps://${url}`, ...message]],
    ['a URL without its slashes', ['send', '--connection', 'smtps:s3cr3t', ...message]],
    ['a setting', ['send', '--set', 'connection.auth.password:s3cr3t', ...message]],
    [
      'a port that is none',
      ['send', '--connection', `smtps://me:s3cr3t@mail.example.com:99999999`, ...message],
    ],
  ])('%s: is not repeated', async (_, args) => {
    await using place = await Workplace.make();
    for (const more of [[], ['--json']]) {
      const { code, out, err } = await place.flowpost([...args, ...more]);
      expect(code).toBeGreaterThan(0);
      expect(out + err).not.toContain('s3cr3t');
    }
    const { out, err } = await place.flowpost(['send', ...message], { FLOWPOST_CONNECTION: url });
    expect(out + err).not.toContain('s3cr3t');
  });

  it("a word that YAML takes for a tag is none of anybody's business", async () => {
    await using place = await Workplace.make({
      'letter.txt':
        '---\nconnection: {host: a, auth: {kind: basic, username: a, password: !s3cr3t}}\n---\nHi',
      'people.csv': 'email\na@x.org\n',
    });
    await place.write('.config/flowpost/config.yaml', 'connections:\n  work:\n    password: !s3cr3t\n');
    const verify = await place.flowpost(['verify', '--connection', '@work']);
    const batch = await place.flowpost(['batch', '--template', 'letter.txt', '--rows', 'people.csv']);
    expect([verify.code, batch.code]).toEqual([78, 65]);
    expect(verify.err + batch.err).not.toContain('s3cr3t');
  });

  it('what holds no password is named', async () => {
    await using place = await Workplace.make();
    const { err } = await place.flowpost(['send', '--connection', '@work', ...message]);
    expect(err).toContain('work');
  });
});

describe('files', () => {
  const sent = ['preview', ...message, '--html', '<p>x</p>'];
  it.each([
    ['that cannot be written', [...sent, '--html-out', 'nowhere/page.html'], 65],
    ['that are folders', [...sent, '--html-out', '.'], 65],
    ['of a catcher', ['catch', '--port', '0', '--tls', 'starttls', '--ca-out', 'nowhere/ca.pem'], 65],
    ['on a disk that is full', [...sent, '--html-out', '/dev/full'], 75],
  ])('%s are mistakes and no defects', async (_, args, expected) => {
    await using place = await Workplace.make();
    const { code, out } = await place.flowpost([...args, '--json']);
    expect([code, JSON.parse(out).error.code]).toEqual([expected, expect.not.stringContaining('INTERNAL')]);
  });

  it('rotate goes through a link and changes nothing it does not know', async () => {
    await using place = await Workplace.make();
    const [older, newer] = await Promise.all(
      ['old', 'new'].map(async (id) => (await place.flowpost(['secret', 'keygen', id])).out.trim()),
    );
    const keys = { FLOWPOST_KEYS: older ?? '' };
    const { out } = await place.flowpost(['secret', 'encrypt'], keys, 'the secret');
    const rest = Buffer.from('# K\xf6nig, not UTF-8\npassword: ', 'latin1');
    await writeFile(place.path('real.yaml'), Buffer.concat([rest, Buffer.from(out)]));
    await symlink('real.yaml', place.path('link.yaml'));
    const both = { FLOWPOST_KEYS: `${newer},${older}` };
    expect((await place.flowpost(['secret', 'rotate', 'link.yaml'], both)).code).toBe(0);
    expect((await lstat(place.path('link.yaml'))).isSymbolicLink()).toBe(true);
    const rotated = await readFile(place.path('real.yaml'));
    expect(rotated.subarray(0, rest.length)).toEqual(rest);
    expect(rotated.subarray(rest.length).toString()).not.toBe(out);
  });
});

it('--json is JSON, whatever else is asked for', async () => {
  await using place = await Workplace.make();
  const page = await place.flowpost([
    ...['preview', ...message, '--html', '<p>x</p>'],
    ...['--html-out', 'page.html', '--json'],
  ]);
  expect(JSON.parse(page.out)).toMatchObject({ envelope: { from: 'a@x.org' } });
  const bash = await place.flowpost(['completion', 'bash', '--json']);
  expect(JSON.parse(bash.out).bash).toContain('complete');
});

it('a preview uses the usual connection, and asks nobody for its password', async () => {
  await using place = await Workplace.make();
  const config = `default: work
connections:
  work: { host: mail.example.com, from: shop@example.com, auth: { kind: basic, username: a, passwordCommand: "touch asked" } }`;
  await place.write('.config/flowpost/config.yaml', config);
  const { code, out, err } = await place.flowpost([
    ...['preview', '--to', 'b@x.org', '--subject', 'Hi'],
    ...['--text', 'x', '--json'],
  ]);
  expect([code, err]).toEqual([0, '']);
  expect(JSON.parse(out).envelope.from).toBe('shop@example.com');
  await expect(readFile(place.path('asked'))).rejects.toThrow('ENOENT');
});

it('a step without its settings is told about them alone', async () => {
  await using place = await Workplace.make({ 'step.json': '{"node":"diaflow.smtp"}' });
  const { code, out } = await place.flowpost(['run', 'step.json', '--json']);
  expect(code).toBe(65);
  expect(JSON.parse(out).error.details.issues).toEqual([
    { path: 'settings', message: 'it must be an object' },
  ]);
});

it('attaches from private hosts that it is allowed, and follows them to no others', async () => {
  await using place = await Workplace.make();
  await using inbox = await SmtpInbox.start();
  await using files = await HttpServer.start((request, response) => {
    if (request.url === '/a.txt') response.writeHead(200, { 'content-type': 'text/plain' }).end('private');
    else response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end();
  });
  const send = ['send', '--connection', inbox.url, '--from', 'a@x.org', '--to', 'b@x.org', '--text', 'x'];
  const host = new URL(files.url('/')).host;
  const allowed = [...send, '--allow-host', host, '--attach'];
  expect(await place.flowpost([...allowed, files.url('/a.txt')])).toMatchObject({ code: 0 });
  expect(inbox.messages[0]?.attachments).toMatchObject([
    { filename: 'a.txt', content: Buffer.from('private') },
  ]);
  for (const args of [
    [...allowed, files.url('/elsewhere')],
    [...send, '--attach', files.url('/a.txt')],
  ])
    expect(await place.flowpost(args)).toMatchObject({
      code: 66,
      err: expect.stringContaining('URL_REFUSED'),
    });
  await place.write(
    'step.json',
    JSON.stringify({
      node: 'send-email',
      settings: {
        ...{ connection: inbox.url, from: 'a@x.org' },
        ...{ to: 'b@x.org', text: 'x', attachments: [{ kind: 'url', url: files.url('/a.txt') }] },
      },
    }),
  );
  expect(await place.flowpost(['run', 'step.json', '--allow-host', host])).toMatchObject({ code: 0 });
  for (const wrong of [files.url('/'), 'files.local:99999', 'files.local/x', 'a:b', 'bücher.local:9000'])
    expect(await place.flowpost([...send, '--allow-host', wrong])).toMatchObject({
      ...{ code: 64, err: expect.stringContaining(JSON.stringify(wrong)) },
    });
});

it('connections by their names alone are taken from any JSON file, and from YAML with a word above them', async () => {
  await using inbox = await SmtpInbox.start();
  const flat = JSON.stringify({ work: inbox.url });
  await using place = await Workplace.make({ 'mine.json': flat, 'mine.yaml': `work: ${inbox.url}\n` });
  const send = ['send', '--connection', '@work', '--from', 'a@x.org', '--to', 'b@x.org', '--text', 'x'];
  expect(await place.flowpost(send, { FLOWPOST_CONFIG: 'mine.json' })).toMatchObject({ code: 0 });
  expect(await place.flowpost([...send, '--config', 'mine.yaml'])).toMatchObject({
    ...{ code: 78, err: expect.stringContaining('Write connections:') },
  });
  // One may be called default; a name there says which is the usual one.
  const { host, port } = inbox;
  for (const usual of [inbox.url, { host, port, tls: 'none' }, 'work']) {
    await place.write('mine.json', JSON.stringify({ default: usual, work: inbox.url }));
    const given = usual === 'work' ? [] : ['--connection', '@default'];
    const args = [...given, '--from', 'a@x.org', '--to', 'b@x.org', '--text', 'x', '--config', 'mine.json'];
    expect(await place.flowpost(['send', ...args])).toMatchObject({ code: 0 });
  }
});

it.each(['starttls:fin', 'handshake:fin'])('catch --fault %s goes with TLS', async (fault) => {
  await using place = await Workplace.make();
  const { code, err } = await place.flowpost(['catch', '--port', '0', '--fault', fault]);
  expect([code, err]).toEqual([64, expect.stringContaining('--tls starttls')]);
});

describe('what people mistake', () => {
  const nowhere = ['--connection', 'smtp://127.0.0.1:1'];
  it.each([
    [
      'an address without a scheme',
      ['send', '--connection', '127.0.0.1:2525', ...message],
      78,
      'smtp://HOST:PORT',
    ],
    ['a name without @', ['send', '--connection', 'work', ...message], 78, '@work'],
    ['a header with an option', ['send', ...nowhere, ...message, '--header', 'Bcc: b@x.org'], 64, '--bcc'],
    ['standard input twice', ['send', ...nowhere, ...message, '--text', '@-', '--html', '@-'], 64, 'once'],
    ['options beside a file', ['preview', 'step.json', '--subject', 'Hi'], 64, '--subject'],
    ['a step without a connection', ['run', 'step.json'], 64, '--connection'],
    ['a step of no kind there is', ['run', 'odd.json'], 65, 'cognigy.send-smtp-email'],
    [
      'a setting that is misspelt',
      ['batch', '--template', 'misspelt.txt', '--rows', 'rows.csv', '--results', 'r'],
      65,
      '"subjct"',
    ],
    [
      'a folder for rows',
      ['batch', '--template', 'letter.txt', '--rows', '.', '--results', 'r'],
      65,
      'is a folder',
    ],
    [
      'a folder for results',
      ['batch', '--template', 'letter.txt', '--rows', 'rows.csv', '--results', '.'],
      64,
      'is a folder',
    ],
    ['a folder of secrets', ['secret', 'rotate', '.'], 65, 'is a folder'],
    ['a key with a space', ['secret', 'keygen', 'my key'], 64, 'letters'],
    [
      'semicolons',
      ['batch', '--template', 'letter.txt', '--rows', 'rows.csv', '--results', 'r'],
      65,
      'semicolons',
    ],
    [
      'an empty file of rows',
      ['batch', '--template', 'letter.txt', '--rows', 'empty.csv', '--results', 'r'],
      65,
      'nothing in it',
    ],
  ])('%s: says what to do', async (_, args, expected, text) => {
    await using place = await Workplace.make({
      'letter.txt': '---\nconnection: smtp://127.0.0.1:1\nfrom: a@x.org\nto: "{{ row.email }}"\n---\nHi',
      'misspelt.txt': '---\nsubjct: x\nto: "{{ row.email }}"\n---\nHi',
      'rows.csv': 'email;name\na@x.org;Ann\n',
      'empty.csv': '\uFEFF\n \n',
      'step.json': JSON.stringify({ node: 'send-email', settings: { from: 'a@x.org', to: 'b@x.org' } }),
      'odd.json': JSON.stringify({ node: 'send-mail', settings: {} }),
    });
    await place.write('.config/flowpost/config.yaml', 'connections:\n  work: smtp://127.0.0.1:1\n');
    const { code, err } = await place.flowpost(args);
    expect([code, err]).toEqual([expected, expect.stringContaining(text)]);
    expect(err).not.toMatch(/defect|--resume/);
  });

  it('who goes on with what is not there is told that it begins', async () => {
    await using place = await Workplace.make({
      'rows.csv': 'email\nb@x.org\n',
      'letter.txt': '---\nfrom: a@x.org\nto: {{ row.email }}\nsubject: Hi\n---\nHello\n',
    });
    const files = ['--template', 'letter.txt', '--rows', 'rows.csv', '--results', 'other/r.ndjson'];
    await place.write('other/.keep', '');
    const batch = ['batch', ...files, '--connection', 'smtp://127.0.0.1:1', '--resume'];
    const { err } = await place.flowpost(batch);
    expect(err).toMatch(/^There is no .*other\/r\.ndjson of an earlier run/);
  });

  it('a table that cannot be read is said to be that, as in a dry run', async () => {
    await using place = await Workplace.make({
      'letter.txt': '---\nfrom: a@x.org\nto: {{ row.email }}\nsubject: Hi\n---\nHello\n',
    });
    // Reading it fails, who ever reads.
    const files = [
      '--template',
      'letter.txt',
      '--rows',
      '/proc/self/mem',
      '--format',
      'csv',
      '--results',
      'r.ndjson',
    ];
    for (const more of [[], ['--dry-run']]) {
      const batch = ['batch', ...files, '--connection', 'smtp://127.0.0.1:1', ...more];
      const { code, err } = await place.flowpost(batch);
      expect([code, err]).toEqual([65, expect.stringContaining('/proc/self/mem cannot be read')]);
    }
  });

  it('a preview names files as they are called', async () => {
    await using place = await Workplace.make({ 'ä ö.txt': 'x', 'a%20b.txt': 'x' });
    const attach = ['--attach', 'ä ö.txt', '--attach', 'a%20b.txt'];
    const { out } = await place.flowpost(['preview', ...message, ...attach, '--json']);
    const names = JSON.stringify(JSON.parse(out)).match(/"filename":"[^"]*"/g);
    expect(names).toEqual(['"filename":"ä ö.txt"', '"filename":"a%20b.txt"']);
  });

  it('a step without a connection goes over the usual one, and so does one of a project', async () => {
    await using place = await Workplace.make({
      'step.json': JSON.stringify({ node: 'send-email', settings: { from: 'a@x.org', to: 'b@x.org' } }),
      'flowpost.connections.json': JSON.stringify({
        default: 'mail',
        connections: { mail: 'smtp://127.0.0.1:1' },
      }),
    });
    for (const environment of [{ FLOWPOST_CONNECTION: 'smtp://127.0.0.1:1' }, {}]) {
      const { code, err } = await place.flowpost(['run', 'step.json'], environment);
      expect([code, err]).toEqual([75, expect.stringContaining('127.0.0.1:1')]);
    }
  });
});

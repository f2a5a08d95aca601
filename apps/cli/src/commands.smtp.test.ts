import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { formatSecretKey, generateSecretKey } from '@flowpost/core';
import { OAuthServer, RawServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { specs } from './specs.ts';
import { message, password, Workplace } from './testing/flowpost.test-support.ts';

const letter = '---\nfrom: a@x.org\nto: {{ row.email }}\nsubject: Hi\n---\nHello\n';

describe('connections by name', () => {
  it('come from the configuration of the user, with a default', async () => {
    await using place = await Workplace.make();
    await using inbox = await SmtpInbox.start();
    await place.write(
      '.config/flowpost/config.yaml',
      `# mine\ndefault: work\nconnections:\n  work: ${inbox.url}\n`,
    );
    expect((await place.flowpost(['send', ...message])).code).toBe(0);
    expect((await place.flowpost(['send', '--connection', '@work', ...message])).code).toBe(0);
    await place.write('elsewhere/flowpost/config.json', JSON.stringify({ connections: { home: inbox.url } }));
    const elsewhere = { XDG_CONFIG_HOME: place.path('elsewhere') };
    expect((await place.flowpost(['send', '--connection', '@home', ...message], elsewhere)).code).toBe(0);
    await place.write('own.yaml', `connections: { other: "${inbox.url}" }`);
    expect(
      (await place.flowpost(['send', '--config', 'own.yaml', '--connection', '@other', ...message])).code,
    ).toBe(0);
    const byEnvironment = { FLOWPOST_CONFIG: 'own.yaml', FLOWPOST_CONNECTION: '@other' };
    expect((await place.flowpost(['send', ...message], byEnvironment)).code).toBe(0);
    expect(inbox.messages).toHaveLength(5);
    const unknown = await place.flowpost(['send', '--connection', '@away', ...message]);
    expect(unknown.code).toBe(78);
    expect(unknown.err).toMatch(/one of @work/);
  });

  it('that cannot be looked at are said to be unreadable, not to be none', async () => {
    await using place = await Workplace.make();
    await mkdir(place.path('.config/flowpost'), { recursive: true });
    // What goes in a circle cannot be looked at, like what lies in somebody else's folder.
    await symlink('config.yaml', place.path('.config/flowpost/config.yaml'));
    const { code, err } = await place.flowpost(['send', '--connection', '@work', ...message]);
    expect([code, err]).toEqual([78, expect.stringMatching(/config\.yaml cannot be read \(ELOOP\)/)]);
  });

  it('take passwords from commands, as a text for the shell or as a list', async () => {
    await using place = await Workplace.make({ 'secret file': `${password}\nand more\n` });
    await using inbox = await SmtpInbox.start({ users: { me: password } });
    const config = (command: string): string =>
      `connections:\n  work: { host: 127.0.0.1, port: ${inbox.port}, auth: { kind: basic, username: me, passwordCommand: ${command} } }\n`;
    for (const command of ['"cat \'secret file\'"', '[cat, secret file]']) {
      await place.write('.config/flowpost/config.yaml', config(command));
      expect((await place.flowpost(['send', '--connection', '@work', ...message])).code).toBe(0);
    }
    for (const [command, said] of [
      ['"echo oops >&2; exit 3"', /passwordCommand failed \(3\)/],
      ['"true"', /passwordCommand printed nothing/],
      ['"yes"', /passwordCommand printed more than any secret has/],
      [`"printf '\\\\344'"`, /passwordCommand printed what is not UTF-8/],
      ['7', /passwordCommand must be a command/],
    ] as const) {
      await place.write('.config/flowpost/config.yaml', config(command));
      const { code, err } = await place.flowpost(['send', '--connection', '@work', ...message]);
      expect([code, err]).toEqual([78, expect.stringMatching(said)]);
    }
    expect(inbox.logins).toEqual(['me', 'me']);
  });

  it('a file that comes with a folder starts no commands', async () => {
    await using place = await Workplace.make();
    const connection = {
      host: '127.0.0.1',
      auth: { kind: 'basic', username: 'me', passwordCommand: 'touch was-run' },
    };
    await place.write('flowpost.connections.json', JSON.stringify({ theirs: connection }));
    const { code, err } = await place.flowpost(['send', '--connection', '@theirs', ...message]);
    expect([code, err]).toEqual([78, expect.stringMatching(/may not run commands/)]);
    await expect(stat(place.path('was-run'))).rejects.toThrow('ENOENT');
  });

  it('warn of a password that others can read, and show no line of a broken file', async () => {
    await using place = await Workplace.make();
    await using inbox = await SmtpInbox.start({ users: { me: password } });
    const connection = {
      host: '127.0.0.1',
      port: inbox.port,
      auth: { kind: 'basic', username: 'me', password },
    };
    await place.write('.config/flowpost/config.json', JSON.stringify({ connections: { work: connection } }));
    const send = () => place.flowpost(['send', '--connection', '@work', ...message]);
    expect((await send()).err).not.toMatch(/Warning/);
    await chmod(place.path('.config/flowpost/config.json'), 0o644);
    expect((await send()).err).toMatch(/Warning: .*others can read it/);
    await place.write('broken.yaml', `connections:\n  a: "${password}\n  b: [`);
    const broken = await place.flowpost([
      'send',
      '--config',
      'broken.yaml',
      '--connection',
      '@a',
      ...message,
    ]);
    expect([broken.code, broken.err]).toEqual([
      78,
      expect.stringMatching(/broken\.yaml is not valid YAML \(line \d/),
    ]);
  });
});

describe('send', () => {
  it('takes any other setting of the node, and its text from standard input', async () => {
    await using place = await Workplace.make();
    await using inbox = await SmtpInbox.start();
    const { code } = await place.flowpost(
      [
        'send',
        '--connection',
        inbox.url,
        '--from',
        'a@x.org',
        '--to',
        'b@x.org',
        '--subject',
        'Hi',
        '--text',
        '@-',
      ]
        .concat('--set', 'messageId=<mine@x.org>', '--set', 'unsubscribe.url=https://x.org/u')
        .concat('--set', 'sandbox.redirectTo=me@x.org', '--set', 'references=["<one@x.org>"]')
        .concat('--set', 'headers.X-Foo=Grüße'),
      {},
      'from a pipe, {{ as it is }}\n',
    );
    expect(code).toBe(0);
    const [mail] = inbox.messages;
    expect(mail?.text).toMatch(/^from a pipe, \{\{ as it is \}\}/);
    expect(mail?.envelope.to).toEqual(['me@x.org']);
    expect(mail?.messageId).toBe('<mine@x.org>');
    expect(mail?.headers.get('x-foo')?.join()).toMatch(/^X-Foo: =\?/);
    expect(mail?.headers.get('list-unsubscribe')?.join()).toMatch(/https:\/\/x\.org\/u/);
    for (const wrong of ['async=true', 'nothing', 'colour=red']) {
      const { code: bad } = await place.flowpost([
        'send',
        '--connection',
        inbox.url,
        ...message,
        '--set',
        wrong,
      ]);
      expect(bad).toBe(wrong === 'colour=red' ? 65 : 64);
    }
    expect(inbox.messages).toHaveLength(1);
  });
});

describe('preview', () => {
  const html = [
    '--html',
    '<p>Hello <img src="cid:logo"></p>',
    '--inline',
    'logo=logo.png',
    '--attach',
    'note.txt',
  ];

  it('--summary tells structure, sizes, headers and limits', async () => {
    await using place = await Workplace.make({ 'logo.png': 'PNG', 'note.txt': 'a note' });
    const { code, out } = await place.flowpost(['preview', ...message, ...html, '--summary']);
    expect(code).toBe(0);
    expect(out).toMatch(/^Envelope {3}from a@x\.org to b@x\.org$/m);
    expect(out).toMatch(/^Subject +Hi$/m);
    const tree = out
      .split('\n')
      .filter((line) => /multipart|text\/|image\//.test(line) && !/^[A-Z]/.test(line));
    expect(tree.map((line) => line.replace(/ {2}\d.*?B/, ''))).toEqual([
      'multipart/mixed',
      '├─ multipart/alternative',
      '│  ├─ text/plain  7bit',
      '│  └─ multipart/related',
      '│     ├─ text/html  7bit',
      '│     └─ image/png  base64, inline, logo.png, cid:logo',
      '└─ text/plain  base64, attachment, note.txt',
    ]);
    expect(out).toMatch(/Every known service takes a message of this size/);
  });

  it('--summary names services for which it is too large', async () => {
    await using place = await Workplace.make();
    await writeFile(place.path('large.bin'), Buffer.alloc(30_000_000));
    const { out } = await place.flowpost(['preview', ...message, '--attach', 'large.bin', '--json']);
    const { refusedBy, sizeBytes } = JSON.parse(out);
    expect(sizeBytes).toBeGreaterThan(40_000_000);
    expect(refusedBy.map(({ service }: { service: string }) => service)).toContain('Gmail');
  });

  it('--html-out writes a page with its pictures in it', async () => {
    await using place = await Workplace.make({ 'logo.png': 'PNG', 'note.txt': 'a note' });
    expect((await place.flowpost(['preview', ...message, ...html, '--html-out', 'out.html'])).code).toBe(0);
    expect((await readFile(place.path('out.html'), 'utf8')).trimEnd()).toBe(
      `<p>Hello <img src="data:image/png;base64,${Buffer.from('PNG').toString('base64')}"></p>`,
    );
    expect((await place.flowpost(['preview', ...message, '--html-out', 'out.html'])).code).toBe(64);
  });
});

it('run --watch shows what would be sent, again after each change, and sends nothing', async () => {
  await using place = await Workplace.make();
  await using inbox = await SmtpInbox.start();
  const step = (subject: string): string =>
    JSON.stringify({
      node: 'send-email',
      settings: { connection: inbox.url, from: 'a@x.org', to: 'b@x.org', subject, text: 'x' },
    });
  await place.write('step.json', step('One {{ input.name }}'));
  await place.write('flow.json', '{"input":{"name":"Ann"}}');
  const child = place.start(['run', 'step.json', '--flow', 'flow.json', '--watch']);
  let shown = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (shown += chunk));
  const until = (pattern: RegExp) => expect.poll(() => shown).toMatch(pattern);
  await until(/Subject +One Ann[\s\S]*Watching/);
  await place.write('flow.json', '{"input":{"name":"Ben"}}');
  await until(/Subject +One Ben/);
  await place.write('step.json', '{');
  await until(/not valid JSON/);
  await place.write('step.json', step('Two'));
  await until(/Subject +Two/);
  child.kill('SIGINT');
  await expect.poll(() => child.exitCode).toBe(0);
  expect(inbox.connections).toBe(0);
});

describe('secret', () => {
  it('rotate encrypts all texts of a file anew, in place, or leaves it as it is', async () => {
    await using place = await Workplace.make();
    const keygen = async (id: string) => (await place.flowpost(['secret', 'keygen', id])).out.trim();
    const [old, fresh] = [await keygen('old'), await keygen('new')];
    const encrypt = async (text: string) =>
      (await place.flowpost(['secret', 'encrypt'], { FLOWPOST_KEYS: old }, text)).out.trim();
    const texts = [await encrypt(password), await encrypt('another')];
    const config = `connections:\n  # kept\n  a: { host: a, auth: { kind: basic, username: u, password: "${texts[0]}" } }\n  b: "${texts[1]}"\n`;
    await place.write('config.yaml', config);
    const both = { FLOWPOST_KEYS: `${fresh},${old}` };
    const { code, err } = await place.flowpost(['secret', 'rotate', 'config.yaml'], both);
    expect([code, err]).toEqual([0, '2 encrypted texts in config.yaml encrypted anew.\n']);
    const rotated = await readFile(place.path('config.yaml'), 'utf8');
    const found = rotated.match(/eyJ[\w-]+\.\.[\w.-]+/g) ?? [];
    expect(found).toHaveLength(2);
    for (const text of texts) expect(rotated).not.toContain(text);
    const blank = (text: string): string => text.replace(/eyJ[\w-]+\.\.[\w.-]+/g, '');
    expect(blank(rotated)).toBe(blank(config));
    expect((await stat(place.path('config.yaml'))).mode & 0o777).toBe(0o600);
    // Opened with the new key alone.
    const only = { FLOWPOST_KEYS: fresh };
    expect((await place.flowpost(['secret', 'rotate'], only, found[0])).code).toBe(0);
    const stranger = { FLOWPOST_KEYS: await keygen('other') };
    expect((await place.flowpost(['secret', 'rotate', 'config.yaml'], stranger)).code).toBe(78);
    expect(await readFile(place.path('config.yaml'), 'utf8')).toBe(rotated);
  });
});

describe('catch', () => {
  it('speaks TLS with an authority of its own, and wants a login', async () => {
    await using place = await Workplace.make();
    await using catcher = await place.catching([
      '--tls',
      'starttls',
      '--ca-out',
      'ca.pem',
      '--user',
      `ann:${password}`,
    ]);
    const url = new URL(catcher.url);
    await place.write(
      'connection.json',
      JSON.stringify({
        ...{ host: url.hostname, port: Number(url.port), tls: 'starttls', tlsOptions: { caFile: 'ca.pem' } },
        auth: { kind: 'basic', username: 'ann', password },
      }),
    );
    expect((await place.flowpost(['send', '--connection', 'connection.json', ...message])).code).toBe(0);
    expect((await catcher.next()).subject).toBe('Hi');
    const untrusted = ['--connection', `smtp://ann:x@127.0.0.1:${url.port}?tls=starttls`];
    expect((await place.flowpost(['send', ...untrusted, ...message])).code).toBe(69);
    const wrong = ['--connection', `smtp://ann:x@127.0.0.1:${url.port}?tls=starttls&caFile=ca.pem`];
    expect((await place.flowpost(['send', ...wrong, ...message])).code).toBe(77);
  });

  it.each([
    [['--refuse', 'rcpt:452:4.2.2 Mailbox full'], 75, /4\.2\.2 Mailbox full/],
    [['--refuse', 'message:554'], 69, /554/],
    [['--fault', 'dot:fin'], 76, /In doubt/],
    [['--fault', 'data:421'], 75, /421/],
    [['--fault', 'auth:5yz'], 77, /554/],
  ] as const)('%j', async (args, code, said) => {
    await using place = await Workplace.make();
    await using catcher = await place.catching([...args]);
    const url = catcher.url.replace('//', '//ann:pw@');
    const result = await place.flowpost([
      'send',
      '--connection',
      args[1]?.startsWith('auth') ? url : catcher.url,
      ...message,
    ]);
    expect([result.code, result.err]).toEqual([code, expect.stringMatching(said)]);
  });

  it('goes wrong as often as wanted, and keeps what it got all the same', async () => {
    await using place = await Workplace.make();
    await using catcher = await place.catching(['--fault', 'dot:fin:1', '--dir', 'kept']);
    const send = () => place.flowpost(['send', '--connection', catcher.url, ...message]);
    expect([(await send()).code, (await send()).code]).toEqual([76, 0]);
    const envelope = { from: 'a@x.org', to: ['b@x.org'] };
    expect(await catcher.next()).toMatchObject({ file: 'kept/0001.eml', envelope });
    expect(await catcher.next()).toMatchObject({ file: 'kept/0002.eml', envelope });
    for (const wrong of ['dot', 'dot:melt', 'dot:fin:many']) {
      expect((await place.flowpost(['catch', '--port', '0', '--fault', wrong])).code).toBe(64);
    }
  });
});

it('what is interrupted says where it was, and does not go on in the background', async () => {
  await using place = await Workplace.make();
  await using silent = await RawServer.start(() => undefined);
  const verify = place.start(['verify', '--connection', `smtp://127.0.0.1:${silent.port}`]);
  await expect.poll(() => silent.connections).toBe(1);
  verify.kill('SIGINT');
  expect(await text(verify.stderr)).toMatch(/^ok +tcp[\s\S]*^failed +ehlo .*Cancelled/m);
  const auth = {
    kind: 'oauth2-client-credentials',
    user: 'a@x.org',
    clientId: 'app',
    clientSecret: password,
  };
  await using inbox = await SmtpInbox.start({ tokens: {} });
  const connection = {
    ...{ host: '127.0.0.1', port: inbox.port },
    auth: { ...auth, tokenEndpoint: `http://127.0.0.1:${silent.port}/token` },
  };
  await place.write('connection.json', JSON.stringify(connection));
  const send = place.start(['send', '--connection', 'connection.json', ...message]);
  await expect.poll(() => silent.connections).toBe(2);
  send.kill('SIGINT');
  expect(await text(send.stderr)).toMatch(/SEND_CANCELLED, phase token/);
  if (send.exitCode === null) await once(send, 'close');
  expect(send.exitCode).toBe(75);
  // A step that a flow would not wait for ends as well.
  const settings = { connection: `smtp://127.0.0.1:${silent.port}`, from: 'a@x.org', to: 'b@x.org' };
  const step = { node: 'send-email', settings: { ...settings, subject: 'Hi', text: 'x', async: true } };
  await place.write('step.json', JSON.stringify(step));
  const run = place.start(['run', 'step.json']);
  await expect.poll(() => silent.connections).toBe(3);
  run.kill('SIGINT');
  expect(await text(run.stderr)).toMatch(/SEND_CANCELLED, phase greeting/);
  if (run.exitCode === null) await once(run, 'close');
  expect(run.exitCode).toBe(75);
});

it('who interrupts what is over hears that a token is still being kept, and it is', async () => {
  await using place = await Workplace.make();
  const mayAnswer = Promise.withResolvers<void>();
  await using issuer = await OAuthServer.start({
    secrets: { app: password },
    answersAfter: () => mayAnswer.promise,
  });
  await using inbox = await SmtpInbox.start({ tokens: {} });
  const auth = {
    ...{ kind: 'oauth2-refresh', user: 'me', clientId: 'app', clientSecret: password },
    ...{ refreshToken: await issuer.issueRefreshToken('app', 'me'), tokenEndpoint: issuer.tokenEndpoint },
  };
  await place.write('c.json', JSON.stringify({ host: '127.0.0.1', port: inbox.port, auth }));
  const env = { FLOWPOST_TOKENS: place.path('tokens'), FLOWPOST_KEYS: formatSecretKey(generateSecretKey()) };
  const send = ['send', '--connection', 'c.json', ...message];
  const first = place.start([...send, '--set', 'timeoutMs=2000'], env);
  let said = '';
  first.stderr.on('data', (chunk) => {
    said += chunk;
  });
  await expect.poll(() => said, { timeout: 10_000 }).toContain('SEND_TIMED_OUT');
  first.kill('SIGINT');
  await expect.poll(() => said).toContain('Waiting for a new token');
  mayAnswer.resolve();
  await once(first, 'close');
  await place.flowpost(send, env);
  // The mail server takes no token at all, so the second one asks for another with what the first one had kept.
  expect([issuer.requests.length, issuer.refusals]).toEqual([2, []]);
});

it('options that make no sense together are refused, and hints say what they name', async () => {
  await using place = await Workplace.make({ 'people.csv': 'email\na@x.org\n', 'letter.txt': letter });
  const files = ['--template', 'letter.txt', '--rows', 'people.csv'];
  for (const args of [
    ['catch', '--port', '0', '--ca-out', 'ca.pem'],
    ['preview', '--flow', 'flow.json', ...message],
    ['batch', ...files, '--connection', 'smtp://127.0.0.1:1', '--dry-run', '--resume'],
    ['batch', ...files.slice(0, 3), '/dev/stdin', '--connection', 'smtp://127.0.0.1:1'],
  ])
    expect((await place.flowpost(args)).code).toBe(64);
  await place.write('flowpost.connections.json', '{');
  expect((await place.flowpost(['send', '--connection', '@a', ...message])).code).toBe(78);
  await place.write('step.json', JSON.stringify({ node: 'send-mail', settings: {} }));
  const { err } = await place.flowpost(['run', 'step.json']);
  expect(err).toMatch(/Use one of the node types listed in known\.[\s\S]*known: .*send-email/);
});

describe('help and completion', () => {
  const names = Object.keys(specs);

  it('bash completes commands, options and values', async () => {
    await using place = await Workplace.make();
    const { out } = await place.flowpost(['completion', 'bash']);
    await place.write('complete', out);
    const complete = async (...words: string[]): Promise<string[]> => {
      const script = `source ./complete; COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _flowpost; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout } = await promisify(execFile)('bash', ['-c', script], { cwd: place.folder });
      return stdout.trim().split('\n');
    };
    expect(await complete('flowpost', 'se')).toEqual(
      ['send', 'services', 'secret'].toSorted((a, b) => names.indexOf(a) - names.indexOf(b)),
    );
    expect(await complete('flowpost', 'batch', '--re')).toEqual(
      ['--results', '--resume', '--retry-failed', '--retry-in-doubt'].filter((one) => one.startsWith('--re')),
    );
    expect(await complete('flowpost', 'send', '--priority', 'h')).toEqual(['high']);
    expect(await complete('flowpost', 'send', '--priority', '')).toEqual(['high', 'normal', 'low']);
    expect(await complete('flowpost', 'secret', 'k')).toEqual(['keygen']);
    expect(await complete('flowpost', 'send', '')).toContain('--connection');
    // Here belong files, or what nobody knows: the shell's own completion is asked.
    for (const words of [
      ['send', '--attach', ''],
      ['send', '--subject', ''],
      ['run', ''],
      ['run', 'ex'],
      ['secret', 'rotate', ''],
      ['secret', 'rotate', 'co'],
    ])
      expect(await complete('flowpost', ...words)).toEqual(['']);
  });

  it.each(['zsh', 'fish'])('what %s gets is what it can read', async (shell) => {
    await using place = await Workplace.make();
    const { code, out } = await place.flowpost(['completion', shell]);
    expect(code).toBe(0);
    for (const name of names) expect(out).toContain(name);
    expect(out).toContain(shell === 'zsh' ? "'help:" : ' -a help ');
    await place.write('complete', out);
    const { error, status, stderr } = spawnSync(shell, ['-n', place.path('complete')], { encoding: 'utf8' });
    // Not every machine has every shell.
    if (!error) expect([status, stderr]).toEqual([0, '']);
    if (!error && shell === 'fish') {
      const complete = (line: string) =>
        spawnSync(shell, ['-c', `source ${place.path('complete')}; complete -C ${line}`], {
          encoding: 'utf8',
        }).stdout;
      expect(complete("'flowpost send --subject run --f'")).toContain('--from');
      expect(complete("'flowpost send --subject run --f'")).not.toContain('--flow');
      expect(complete("'flowpost completion '").split('\n').length).toBe(4);
    }
    expect((await place.flowpost(['completion', 'tcsh'])).code).toBe(64);
  });
});

import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { spawn } from '@lydell/node-pty';
import { describe, expect, it } from 'vitest';
import { cleanEnvironment, command, message, password, Workplace } from './testing/flowpost.test-support.ts';

const hideCursor = '\x1b[?25l';
const showCursor = '\x1b[?25h';
const plain = (text: string): string => text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '');

/** The command in a terminal of its own, 100 columns wide. */
function inTerminal(place: Workplace, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const environment = cleanEnvironment(place.folder, { TERM: 'xterm-256color', ...env });
  const terminal = spawn(process.execPath, [command, ...args], {
    ...{ cols: 100, rows: 30, cwd: place.folder },
    env: environment as Record<string, string>,
  });
  let shown = '';
  terminal.onData((data) => {
    shown += data;
  });
  const ended = new Promise<number>((resolve) => terminal.onExit(({ exitCode }) => resolve(exitCode)));
  return {
    write: (text: string) => terminal.write(text),
    shown: () => shown,
    async until(pattern: RegExp) {
      for (let waited = 0; !pattern.test(shown); waited += 20) {
        if (waited > 20_000) throw new Error(`never shown: ${pattern}\n${JSON.stringify(shown)}`);
        await delay(20);
      }
    },
    ended,
  };
}

/** An SMTP server that takes its time for each message. */
const slow = (ms: number) =>
  SmtpInbox.start({
    refuse: {
      message: async () => {
        await delay(ms);
        return undefined;
      },
    },
  });
const people = (count: number): string =>
  ['email', ...Array.from({ length: count }, (_, at) => `p${at}@x.org`)].join('\n');
const letter = '---\nfrom: a@x.org\nto: {{ row.email }}\nsubject: Hi\n---\nHello\n';
const batch = ['batch', '--template', 'letter.txt', '--rows', 'people.csv'];

describe('at a terminal', () => {
  it('a batch shows how far it is, and takes that away when it has ended', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(120) });
    await using inbox = await slow(30);
    const terminal = inTerminal(place, [...batch, '--connection', inbox.url]);
    // What was read ahead is not done: the bar grows with what is sent, and says how long it will take.
    await terminal.until(/\[#{2,9}\.{15,}\] \d+ sent, \d+\/s/);
    expect(await terminal.ended).toBe(0);
    const shown = terminal.shown();
    expect(shown.indexOf(hideCursor)).toBeGreaterThanOrEqual(0);
    expect(shown.lastIndexOf(showCursor)).toBeGreaterThan(shown.lastIndexOf(hideCursor));
    expect(
      plain(shown)
        .split(/[\r\n]+/)
        .filter(Boolean)
        .at(-1),
    ).toMatch(/^120 sent, in \d/);
  });

  it('Ctrl-Z gives the cursor back, and does not stop what nobody could wake', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(20) });
    await using inbox = await slow(100);
    // Started by no shell, it is the leader of its session, and the terminal's Ctrl-Z does not stop it.
    const terminal = inTerminal(place, [...batch, '--connection', inbox.url]);
    await terminal.until(/[1-9]\d* sent, /);
    terminal.write('\x1a');
    await terminal.until(/\x1b\[\?25h/);
    expect(await terminal.ended).toBe(0);
    expect(plain(terminal.shown())).toContain('20 sent');
  });

  it('Ctrl-C in a batch waits for what is under way, gives the cursor back, and says how to go on', async () => {
    await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(500) });
    await using inbox = await slow(100);
    const terminal = inTerminal(place, [...batch, '--connection', inbox.url]);
    await terminal.until(/[1-9]\d* sent, /);
    terminal.write('\x03');
    expect(await terminal.ended).toBe(75);
    const shown = terminal.shown();
    expect(shown.lastIndexOf(showCursor)).toBeGreaterThan(shown.lastIndexOf(hideCursor));
    expect(plain(shown)).toMatch(/Stopping\..*Go on with --resume\./s);
    const lines = (await readFile(place.path('people.csv.results.ndjson'), 'utf8')).trimEnd().split('\n');
    const states = lines.map((line) => JSON.parse(line).state);
    // What may be leaving is finished; what only waits is left for later.
    expect(new Set(states)).toEqual(new Set(['sent', 'deferred']));
    expect(states.filter((state) => state === 'sent')).toHaveLength(inbox.messages.length);
  });

  it('a large message shows how much has left', async () => {
    await using place = await Workplace.make();
    await writeFile(place.path('large.bin'), Buffer.alloc(60_000_000));
    await using inbox = await slow(300);
    const terminal = inTerminal(place, [
      'send',
      '--connection',
      inbox.url,
      ...message,
      '--attach',
      'large.bin',
    ]);
    await terminal.until(/\[#+\.*\] \d+\.\d MB sent/);
    expect(await terminal.ended).toBe(0);
    expect(plain(terminal.shown())).toMatch(/Sent <.*> to b@x\.org/);
  });

  it.each([
    ['before the message', 'rcpt', 75, /Not sent/],
    ['behind the final dot', 'dot', 76, /In doubt/],
  ] as const)('Ctrl-C %s says whether it may have gone out', async (_, stage, code, said) => {
    await using place = await Workplace.make();
    await using server = await FaultServer.start({ stage, fault: 'silence' });
    const terminal = inTerminal(place, [
      'send',
      '--connection',
      `smtp://127.0.0.1:${server.port}`,
      ...message,
    ]);
    while (server.connections === 0) await delay(10);
    await delay(300);
    terminal.write('\x03');
    expect(await terminal.ended).toBe(code);
    const shown = terminal.shown();
    expect(plain(shown)).toMatch(said);
    expect(shown.lastIndexOf(showCursor)).toBeGreaterThan(shown.lastIndexOf(hideCursor));
  });

  it('colours what people look for, unless NO_COLOR is set', async () => {
    await using place = await Workplace.make();
    await using inbox = await SmtpInbox.start();
    const args = ['send', '--connection', inbox.url, ...message];
    const coloured = inTerminal(place, args);
    expect(await coloured.ended).toBe(0);
    expect(coloured.shown()).toContain('\x1b[32mSent\x1b[0m');
    const without = inTerminal(place, args, { NO_COLOR: '1' });
    expect(await without.ended).toBe(0);
    expect(without.shown()).not.toMatch(/\x1b\[3\dm/);
    const dumb = inTerminal(place, args, { TERM: 'dumb' });
    expect(await dumb.ended).toBe(0);
    expect(dumb.shown()).toMatch(/^Sent [^\x1b]*$/);
    const quiet = inTerminal(place, [...args, '--quiet']);
    expect(await quiet.ended).toBe(0);
    expect(quiet.shown()).toBe('');
  });

  it('asks for a secret without showing it', async () => {
    await using place = await Workplace.make();
    const { out: key } = await place.flowpost(['secret', 'keygen']);
    const terminal = inTerminal(place, ['secret', 'encrypt'], { FLOWPOST_KEYS: key.trim() });
    await terminal.until(/Secret: /);
    terminal.write(`${password}\r`);
    expect(await terminal.ended).toBe(0);
    expect(terminal.shown()).not.toContain(password);
    expect(terminal.shown()).toMatch(/Secret: \s+eyJ[\w-]+\.\./);
  });
});

it('piped, nothing of that is there', async () => {
  await using place = await Workplace.make({ 'letter.txt': letter, 'people.csv': people(30) });
  await using inbox = await slow(30);
  const { code, out, err } = await place.flowpost([...batch, '--connection', inbox.url]);
  expect(code).toBe(0);
  expect(out).toBe('');
  expect(err).toMatch(/^30 sent, in \d+\.\d s\. Each row: people\.csv\.results\.ndjson\n$/);
});

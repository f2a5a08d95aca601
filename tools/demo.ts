// The first experience: a real mail server on this machine, one real message sent to it by the real command, and
// what arrived.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { promisify } from 'node:util';

interface Caught {
  readonly from: string;
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly subject: string;
  readonly text?: string;
  readonly html?: string;
  readonly attachments: readonly {
    readonly filename: string;
    readonly contentType: string;
    readonly size: number;
  }[];
}

const print = (line: string): boolean => process.stdout.write(`${line}\n`);

async function nextLine<Message>(lines: Interface, catcher: ChildProcess): Promise<Message> {
  const stopped = once(catcher, 'exit').then(() => Promise.reject(new Error('flowpost catch stopped')));
  const [line] = await Promise.race([once(lines, 'line'), stopped]);
  return JSON.parse(line);
}

const catcher = spawn('flowpost', ['catch', '--port', '0', '--json'], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
// However this ends, a broken pipe included, the server does not stay behind.
process.once('exit', () => catcher.kill());
try {
  const lines = createInterface({ input: catcher.stdout });
  const { listening } = await nextLine<{ listening: { url: string } }>(lines, catcher);
  print(`A mail server is listening at ${listening.url}.`);
  print(`\n$ flowpost run examples/hello.json --connection ${listening.url}`);

  const caught = nextLine<Caught>(lines, catcher);
  const run = ['run', 'examples/hello.json', '--connection', listening.url, '--json'];
  const { stdout } = await promisify(execFile)('flowpost', run);
  const { receipt } = JSON.parse(stdout).outcome;
  print(`\nThe receipt\n${JSON.stringify(receipt, null, 2).replace(/^/gm, '  ')}`);

  const mail = await caught;
  print('\nWhat the mail server received, parsed back');
  print(`  From:        ${mail.from}`);
  print(`  To:          ${mail.to.join(', ')}`);
  print(`  Cc:          ${mail.cc.join(', ')}`);
  print(`  Subject:     ${mail.subject}`);
  print(`  Text part:   ${mail.text}`);
  print(`  HTML part:   ${mail.html}`);
  for (const { filename, contentType, size } of mail.attachments) {
    print(`  Attachment:  ${filename}, ${contentType}, ${size} bytes`);
  }
  print('\nNext: flowpost catch in one terminal, flowpost send in another; the README has the commands.');
} finally {
  catcher.kill();
}

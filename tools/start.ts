// The server, with everything it needs on this machine: an embedded database, a mail server that catches what is sent, and
// one message sent through the API to show it. Keeps serving until it is stopped.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const print = (line: string): boolean => process.stdout.write(`${line}\n`);
const children: ChildProcess[] = [];
const main = fileURLToPath(new URL('../apps/server/src/main.ts', import.meta.url));

/** Starts a program and hands over its lines; when it ends by itself, so does this. */
function start(name: string, program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(program, [...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // Ctrl+C goes to everybody of a group. Whoever hears of it twice, from there and from here, does not stop in order.
    detached: process.platform !== 'win32',
    env: { ...process.env, ...env },
  });
  children.push(child);
  child.once('exit', (code) => {
    if (stopping) return;
    process.stderr.write(`${name} has ended (${code}).\n`);
    process.exitCode = 1;
    void stop();
  });
  return createInterface({ input: child.stdout as NodeJS.ReadableStream });
}

let stopping = false;
async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  const ended = children.map((child) =>
    child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined,
  );
  for (const child of children) child.kill('SIGTERM');
  await Promise.all(ended);
  process.exit();
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
process.once('exit', () => {
  for (const child of children) child.kill();
});

async function lineThat<Value>(
  lines: AsyncIterable<string>,
  read: (line: string) => Value | undefined,
): Promise<Value> {
  for await (const line of lines) {
    const value = read(line);
    if (value !== undefined) return value;
  }
  // Why it ended was said by itself, and everything else is being stopped.
  return new Promise<never>(() => undefined);
}

const catcher = start('flowpost catch', 'flowpost', ['catch', '--port', '0', '--json']);
const caught = new Set<string>();
let onCaught: (() => void) | undefined;
const mailUrl = await new Promise<string>((resolve) => {
  catcher.on('line', (line) => {
    const { listening, messageId, subject, from, to } = JSON.parse(line);
    if (listening) resolve(listening.url);
    else {
      print(`  caught: ${subject} (from ${from}, to ${to.join(', ')})`);
      caught.add(messageId);
      onCaught?.();
    }
  });
});

const environment = {
  FLOWPOST_DATA: process.env.FLOWPOST_DATA ?? 'flowpost-data',
  LOG_LEVEL: process.env.LOG_LEVEL ?? 'warn',
};
const server = start('the server', process.execPath, ['--conditions=@flowpost/source', main], environment);
let key = process.env.FLOWPOST_API_KEY;
const url = await lineThat(server, (line) => {
  const firstKey = /^The first API key, shown this once: (\S+)$/.exec(line)?.[1];
  if (firstKey !== undefined) {
    key = firstKey;
    print(`Your API key, shown this once: ${firstKey}`);
  }
  return /^Flowpost is listening at (\S+)$/.exec(line)?.[1];
});

print(`The server is at      ${url}  (the API is described at ${url}/openapi.json)`);
print(`Its data is in        ${environment.FLOWPOST_DATA}`);
print(`Mail is caught at     ${mailUrl}`);

if (key === undefined) {
  print(
    '\nThe data folder is from an earlier start. Set FLOWPOST_API_KEY to the key it printed to see a message sent.',
  );
} else {
  const settings = {
    connection: mailUrl,
    from: 'Flowpost <hello@example.com>',
    to: 'Ann <ann@example.com>',
    subject: 'Hello from {{ input.who }} ✉',
    html: '<h1>It works</h1><p>This message was accepted by the API, written down, and sent from the outbox.</p>',
    async: true,
  };
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  print('\nPOST /v1/nodes/send-email/runs');
  const response = await fetch(`${url}/v1/nodes/send-email/runs`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ settings, flow: { input: { who: 'Flowpost' } } }),
  });
  const answer = (await response.json()) as {
    deliveryId: string;
    outcome: { receipt: { status: string; messageId: string } };
  };
  if (response.status !== 202)
    throw new Error(`the server answered ${response.status}: ${JSON.stringify(answer)}`);
  const { messageId } = answer.outcome.receipt;
  print(`  ${response.status} ${answer.outcome.receipt.status}: delivery ${answer.deliveryId}`);
  while (!caught.has(messageId)) {
    await new Promise<void>((resolve) => {
      onCaught = resolve;
    });
  }
  const path = `/v1/deliveries/${answer.deliveryId}`;
  for (;;) {
    const { state, events } = (await (await fetch(`${url}${path}`, { headers })).json()) as {
      state: string;
      events: { state: string }[];
    };
    if (state !== 'sent') continue;
    print(`GET ${path}\n  ${events.map((event) => event.state).join(' -> ')}`);
    break;
  }
}
print('\nServing until it is stopped with Ctrl+C.');

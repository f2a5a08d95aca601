import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { CrashLoad } from './testing/crash-load.test-support.ts';
import { temporaryFolder } from './testing/local-server.test-support.ts';
import { PostgresServer } from './testing/postgres.test-support.ts';
import { ServerProcess } from './testing/server-process.test-support.ts';

const soak = process.env.FLOWPOST_SOAK !== undefined;
const kills = soak ? 50 : 5;
const messagesInAll = soak ? 2_000 : 400;
/** Each costs a start of the database now and then. */
const onFailingDisk = soak ? 4_000 : 300;
/** So that kills meet something. How many there are beyond is a matter of the machine. */
const leastAccepted = 2 * kills;
const limitMs = soak ? 600_000 : 90_000;
const report = (what: string): boolean => process.stderr.write(`${what}\n`);

async function createConnection(server: ServerProcess, key: string, url: string): Promise<void> {
  const response = await fetch(`${server.url}/v1/connections`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'sink', connection: url }),
  });
  expect(response.status).toBe(201);
}

/** A server that takes its time, now more and now less, so that there is always something under way, and something written ahead. */
const slowInbox = () =>
  SmtpInbox.start({
    refuse: {
      message: async () => {
        await delay(Math.random() * 10);
        return undefined;
      },
    },
  });

/** Runs a command with a disk of its own for a folder, of so many MiB, and nobody else sees it. */
const smallDisk = (folder: string, mib: number): string[] => [
  ...['unshare', '-Urm', 'sh', '-c', `mount -t tmpfs -o size=${mib}m tmpfs "$0" && exec "$@"`, folder],
];
const hasSmallDisks = spawnSync('unshare', ['-Urm', 'true']).status === 0;
if (!hasSmallDisks) report('no user namespaces here: the test of a full disk is skipped');

describe.skipIf(!hasSmallDisks)('a disk that is full', () => {
  it('is a clear refusal, and nothing that was accepted before is lost', async () => {
    await using folder = await temporaryFolder();
    await using inbox = await SmtpInbox.start();
    const server = await ServerProcess.start({ FLOWPOST_DATA: folder.path }, smallDisk(folder.path, 192));
    await using _ended = { [Symbol.asyncDispose]: () => server.end('SIGKILL').then(() => undefined) };
    const headers = { authorization: `Bearer ${server.firstKey}`, 'content-type': 'application/json' };
    const settings = { connection: inbox.url, from: 'a@x.org', to: 'b@x.org', async: true };
    const left = async () => {
      const url = `${server.url}/v1/deliveries?state=queued,sending,committing`;
      return ((await (await fetch(url, { headers })).json()) as { deliveries: unknown[] }).deliveries;
    };
    let accepted = 0;
    let refusal: { readonly status: number; readonly code: string; readonly retryable: boolean } | undefined;
    while (!refusal && accepted < 500) {
      // Nothing that a database could make smaller.
      const text = randomBytes(700_000).toString('base64');
      const body = JSON.stringify({ settings: { ...settings, subject: `full ${accepted}`, text } });
      const response = await fetch(`${server.url}/v1/nodes/send-email/runs`, {
        method: 'POST',
        headers,
        body,
      });
      const answer = await response.json();
      if (response.status === 202) accepted++;
      else refusal = answer as typeof refusal;
    }
    expect(refusal).toMatchObject({ status: 503, code: 'STORAGE_UNAVAILABLE', retryable: true });
    expect(accepted).toBeGreaterThan(5);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    // The room that is kept free is for these.
    const arrived = () => new Set(inbox.messages.map(({ subject }) => subject)).size;
    await expect.poll(arrived, { timeout: 20_000 }).toBe(accepted);
    await expect.poll(() => left(), { timeout: 20_000 }).toEqual([]);
    report(`full disk: ${accepted} accepted and sent, the next one refused with ${refusal?.code}`);
  });
});

describe('a disk that does not always take what it is given', () => {
  it(
    'costs time, and no message',
    async () => {
      await using folder = await temporaryFolder();
      await using inbox = await slowInbox();
      const environment = { FLOWPOST_DATA: folder.path };
      const healthy = await ServerProcess.start(environment);
      const key = healthy.firstKey ?? '';
      await createConnection(healthy, key, inbox.url);
      await healthy.end('SIGTERM');
      const preload = fileURLToPath(new URL('testing/failing-fsync.preload.js', import.meta.url));
      const sign = join(folder.path, 'disk-fails');
      const server = await ServerProcess.start({
        ...environment,
        NODE_OPTIONS: `--import=${pathToFileURL(preload)}`,
        FAILING_FSYNC_FROM: sign,
        FAILING_FSYNC_ONE_IN: '100',
      });
      await writeFile(sign, '');
      const load = new CrashLoad(
        inbox,
        () => [server],
        () => key,
      );
      await load.put(onFailingDisk);
      await load.settle(120_000);
      const outcome = await load.judge();
      const inVain = server.log.filter((line) => line.includes('STORAGE_UNAVAILABLE')).length;
      report(`failing disk: ${JSON.stringify({ ...outcome, refused: load.refused, inVain })}`);
      expect(outcome.accepted).toBeGreaterThan(onFailingDisk / 2);
      expect(inVain).toBeGreaterThan(0);
      await server.end('SIGKILL');
    },
    limitMs,
  );
});

/** One server stands still in the middle of a request for longer than its lease, is taken for dead by the other, and goes on. */
async function standStill([slow, other]: readonly ServerProcess[], key: string): Promise<void> {
  if (!slow || !other) throw new Error('there are two servers');
  const greeting = Promise.withResolvers<void>();
  let messages = 0;
  await using mail = await RawServer.start(async (socket) => {
    await greeting.promise;
    speakSmtp(socket, (command) => {
      if (command === '.') messages++;
      return undefined;
    });
  });
  const headers = {
    authorization: `Bearer ${key}`,
    'content-type': 'application/json',
    'idempotency-key': 'still',
  };
  const settings = { connection: `smtp://127.0.0.1:${mail.port}?tls=none`, from: 'a@x.org', to: 'b@x.org' };
  const ask = async ({ url }: ServerProcess) => {
    const body = JSON.stringify({ settings: { ...settings, subject: 'Still', text: 'x' } });
    return (await fetch(`${url}/v1/nodes/send-email/runs`, { method: 'POST', headers, body })).json();
  };
  const first = ask(slow);
  await expect.poll(() => mail.connections).toBe(1);
  process.kill(slow.pid, 'SIGSTOP');
  const newest = async () => (await fetch(`${other.url}/v1/deliveries?limit=1`, { headers })).json();
  const taken = { state: 'failed', subject: 'Still', error: { code: 'PROCESS_ENDED' } };
  try {
    await expect.poll(newest, { timeout: 20_000 }).toMatchObject({ deliveries: [taken] });
  } finally {
    process.kill(slow.pid, 'SIGCONT');
  }
  greeting.resolve();
  // Nobody cancelled it, and the key is free.
  expect(await first).toMatchObject({ code: 'PROCESS_ENDED', retryable: true });
  const again = await ask(other);
  expect(again).toMatchObject({ outcome: { receipt: { status: 'sent' } } });
  expect(await ask(slow)).toEqual(again);
  expect(messages).toBe(1);
}

describe('a server that is killed', () => {
  it(
    `loses nothing it accepted, and sends nothing twice: ${kills} times on the embedded database`,
    async () => {
      await using folder = await temporaryFolder();
      await using inbox = await slowInbox();
      const environment = { FLOWPOST_DATA: folder.path };
      let server: ServerProcess | undefined = await ServerProcess.start(environment);
      const key = server.firstKey ?? '';
      await createConnection(server, key, inbox.url);
      const load = new CrashLoad(
        inbox,
        () => (server ? [server] : []),
        () => key,
      );
      let putting = true;
      const put = (async () => {
        while (putting) await load.put(Math.max(20, Math.ceil(messagesInAll / kills)));
      })();
      for (let kill = 0; kill < kills; kill++) {
        await delay(100 + Math.random() * 500);
        const killed: ServerProcess | undefined = server;
        server = undefined;
        await killed?.end('SIGKILL');
        server = await ServerProcess.start(environment);
      }
      putting = false;
      await put;
      await load.settle(60_000);
      const outcome = await load.judge();
      report(`embedded database, ${kills} kills: ${JSON.stringify(outcome)}`);
      expect(outcome.accepted).toBeGreaterThan(leastAccepted);
      expect(await server?.end('SIGTERM')).toBe(0);
    },
    limitMs,
  );

  it(
    'loses nothing either on PostgreSQL, with two servers killed in turn and the database stopped and started',
    async () => {
      await using postgres = await PostgresServer.start();
      await using folder = await temporaryFolder();
      await using inbox = await slowInbox();
      const environment = {
        FLOWPOST_DATA: folder.path,
        DATABASE_URL: postgres.url,
        FLOWPOST_LEASE_SECONDS: '2',
      };
      // Both at once: one of them migrates, the other waits for it.
      const servers = await Promise.all([ServerProcess.start(environment), ServerProcess.start(environment)]);
      const key = servers.map(({ firstKey }) => firstKey).find((one) => one !== undefined) ?? '';
      await createConnection(servers[0] as ServerProcess, key, inbox.url);
      const load = new CrashLoad(
        inbox,
        () => servers,
        () => key,
      );
      let putting = true;
      const put = (async () => {
        while (putting) await load.put(Math.max(20, Math.ceil(messagesInAll / kills)));
      })();
      for (let kill = 0; kill < kills; kill++) {
        await delay(100 + Math.random() * 500);
        await servers[kill % 2]?.end('SIGKILL');
        servers[kill % 2] = await ServerProcess.start(environment);
      }
      const before = load.count;
      await postgres.stop();
      await delay(3_000);
      await postgres.again();
      await expect.poll(() => load.count, { timeout: 20_000 }).toBeGreaterThan(before + 20);
      putting = false;
      await put;
      await load.settle(60_000);
      const outcome = await load.judge();
      report(`PostgreSQL, two servers, ${kills} kills, database restarted: ${JSON.stringify(outcome)}`);
      expect(outcome.accepted).toBeGreaterThan(leastAccepted);
      await standStill(servers, key);
      for (const server of servers) expect(await server.end('SIGTERM')).toBe(0);
    },
    limitMs,
  );
});

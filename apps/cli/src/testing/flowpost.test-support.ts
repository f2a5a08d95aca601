import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

/** As it is published, where it was built just before, since that takes half the time; else from its sources. */
const isBuilt = process.env.FLOWPOST_TEST_BUILT !== undefined;
export const command = fileURLToPath(
  new URL(isBuilt ? '../../dist/main.cjs' : '../../bin/flowpost.js', import.meta.url),
);

export const password = 'hunter2-S3cret!';
const encodedPassword = encodeURIComponent(password);

/** The environment without what a person at this machine may have set. */
export function cleanEnvironment(home: string, env: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(?:FLOWPOST_|XDG_|NO_COLOR|FORCE_COLOR)/.test(name),
  );
  return { ...Object.fromEntries(own), HOME: home, ...env };
}

/** A folder to run the command in, and the command. */
export class Workplace implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(files: Readonly<Record<string, string>> = {}): Promise<Workplace> {
    const place = new Workplace(await mkdtemp(join(tmpdir(), 'flowpost-cli-')));
    for (const [name, content] of Object.entries(files)) await place.write(name, content);
    return place;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  async write(name: string, content: string): Promise<void> {
    await mkdir(dirname(this.path(name)), { recursive: true });
    await writeFile(this.path(name), content, { mode: 0o600 });
  }

  start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcessWithoutNullStreams {
    return spawn(process.execPath, [command, ...args], {
      cwd: this.folder,
      env: cleanEnvironment(this.folder, env),
    });
  }

  /** Runs the command as a user would, and makes sure that nothing it prints shows a secret. */
  async flowpost(args: readonly string[], env: NodeJS.ProcessEnv = {}, input = '') {
    const child = this.start(args, env);
    // One that is wrong about its arguments may be gone before.
    child.stdin.on('error', () => undefined).end(input);
    const [out, err, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close') as Promise<[number]>,
    ]);
    for (const secret of [password, encodedPassword, Buffer.from(password).toString('base64')]) {
      expect(out + err).not.toContain(secret);
    }
    return { code, out, err };
  }

  /** A catcher, and what it prints, one document a line. */
  async catching(args: readonly string[] = []) {
    const child = this.start(['catch', '--port', '0', '--json', ...args]);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value ?? 'null');
    const { listening } = await next();
    return {
      url: listening.url as string,
      next,
      async [Symbol.asyncDispose]() {
        child.kill('SIGTERM');
        await once(child, 'close');
      },
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return rm(this.folder, { recursive: true, force: true });
  }
}

export const message = ['--from', 'a@x.org', '--to', 'b@x.org', '--subject', 'Hi', '--text', 'Hello'];

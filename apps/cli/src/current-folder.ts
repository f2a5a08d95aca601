import { parse, resolve } from 'node:path';
import { UsageError } from './command-line.ts';

/** Where this was started; a folder that is gone has no paths in it. */
export function currentFolder(): string {
  try {
    return process.cwd();
  } catch {
    return parse(process.execPath).root;
  }
}

/** What `--allow-host` names. */
export function allowedHosts(given: readonly string[] | undefined): readonly string[] | undefined {
  const wrong = given?.find((one) => /[\s,@]|\/\/|^$/.test(one));
  if (wrong === undefined) return given;
  throw new UsageError(`--allow-host takes HOST[:PORT], not ${JSON.stringify(wrong)}.`);
}

/**
 * Where the attachments of a file may come from: its folder, where relative paths begin, the working directory, and folders and hosts
 * named on the command line.
 */
export function attachmentsBeside(
  folder: string,
  {
    files = [],
    'allow-host': hosts,
  }: {
    readonly files?: readonly string[] | undefined;
    readonly 'allow-host'?: readonly string[] | undefined;
  },
) {
  const current = currentFolder();
  const fileRoots = [folder, current, ...files.map((one) => resolve(current, one))];
  return { baseFolder: folder, fileRoots, urls: { allowedHosts: allowedHosts(hosts) } };
}

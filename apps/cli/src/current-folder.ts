import { parse, resolve } from 'node:path';
import { isMailError } from '@flowpost/core';
import { UsageError } from './command-line.ts';

/** Where this was started; a folder that is gone has no paths in it. */
export function currentFolder(): string {
  try {
    return process.cwd();
  } catch {
    return parse(process.execPath).root;
  }
}

/**
 * What `--allow-host` names.
 *
 * @throws UsageError before anything is fetched or sent, for what names no host.
 */
export async function allowedHosts(
  given: readonly string[] | undefined,
): Promise<readonly string[] | undefined> {
  if (!given) return undefined;
  // Most messages have no attachment from a URL, and need not wait for what decides about those.
  const { AddressGuard } = await import('@flowpost/mime-attachments');
  try {
    new AddressGuard(given);
    return given;
  } catch (error) {
    if (isMailError(error)) throw new UsageError(`--allow-host takes HOST[:PORT]: ${error.message}`);
    throw error;
  }
}

/**
 * Where the attachments of a file may come from: its folder, where relative paths begin, the working directory, and folders and hosts
 * named on the command line.
 */
export async function attachmentsBeside(
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
  return { baseFolder: folder, fileRoots, urls: { allowedHosts: await allowedHosts(hosts) } };
}

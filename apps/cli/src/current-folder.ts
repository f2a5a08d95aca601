import { parse, resolve } from 'node:path';

/** Where this was started; a folder that is gone has no paths in it. */
export function currentFolder(): string {
  try {
    return process.cwd();
  } catch {
    return parse(process.execPath).root;
  }
}

/**
 * Where the attachments of a file may come from: its folder, where relative paths begin, the working directory, and folders and hosts
 * named on the command line.
 */
export function attachmentsBeside(
  folder: string,
  {
    files = [],
    'allow-host': allowedHosts,
  }: {
    readonly files?: readonly string[] | undefined;
    readonly 'allow-host'?: readonly string[] | undefined;
  },
) {
  const current = currentFolder();
  const fileRoots = [folder, current, ...files.map((one) => resolve(current, one))];
  return { baseFolder: folder, fileRoots, urls: { allowedHosts } };
}

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
 * Where the attachments of a file may come from: its folder, where relative paths begin, the working directory, and folders
 * named on the command line.
 */
export function attachmentsBeside(folder: string, more: readonly string[] = []) {
  const current = currentFolder();
  return { baseFolder: folder, fileRoots: [folder, current, ...more.map((one) => resolve(current, one))] };
}

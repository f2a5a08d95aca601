import { parse } from 'node:path';

/** Where this was started; a folder that is gone has no paths in it. */
export function currentFolder(): string {
  try {
    return process.cwd();
  } catch {
    return parse(process.execPath).root;
  }
}

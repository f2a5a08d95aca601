import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/**
 * A folder of the user's own, after the XDG base directory specification; undefined for a user who has none, as in some containers.
 *
 * @param variable names it, if it is absolute.
 * @param usual where it is otherwise, below the home folder.
 */
export function xdgFolder(variable: 'XDG_CACHE_HOME' | 'XDG_CONFIG_HOME', usual: string): string | undefined {
  const named = process.env[variable] ?? '';
  if (isAbsolute(named)) return named;
  try {
    const home = homedir();
    return isAbsolute(home) ? join(home, usual) : undefined;
  } catch {
    return undefined;
  }
}

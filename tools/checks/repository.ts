import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

export interface Manifest {
  /** The folder, relative to the root. */
  readonly folder: string;
  readonly name: string;
  readonly private?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly types?: string;
  readonly exports?: Readonly<Record<string, unknown>>;
  /** For Node-RED: which code has which set of nodes. */
  readonly 'node-red'?: { readonly nodes: Readonly<Record<string, string>> };
  /** For n8n: files with a class each, under the name of the file. */
  readonly n8n?: { readonly nodes: readonly string[]; readonly credentials: readonly string[] };
}

export const readRootFile = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Every package and app of the workspace. */
export const manifests: readonly Manifest[] = globSync('{packages,apps}/*/package.json', { cwd: root })
  .toSorted()
  .map((path) => ({ folder: dirname(path), ...JSON.parse(readRootFile(path)) }));

/** Source files as `[path, text]`, tests included, declared types of other packages left out. */
export const sources: readonly (readonly [string, string])[] = globSync('{packages,apps}/*/src/**/*.ts', {
  cwd: root,
})
  .toSorted()
  .map((path) => [path, readRootFile(path)]);

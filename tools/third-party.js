// The licences of what is bundled want to be passed on with it.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder of the package that a module belongs to: the nearest one with a manifest that has a name and a version. */
function packageOf(module) {
  for (let folder = dirname(module); folder !== dirname(folder); folder = dirname(folder)) {
    const manifest = join(folder, 'package.json');
    const { name, version, license } = existsSync(manifest) ? JSON.parse(readFileSync(manifest, 'utf8')) : {};
    if (name !== undefined && version !== undefined) return { folder, name, version, license };
  }
  throw new Error(`${module} belongs to no package`);
}

function noticeOf({ folder, name, version, license }) {
  const files = readdirSync(folder).filter((file) => /^(?:licen[cs]e|copying|notice)\b/i.test(file));
  const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim());
  return [`${name} ${version} (${license ?? 'see its page'})`, ...texts].join('\n\n');
}

/** Writes a file beside the bundle with the licence of every package in it. */
export const thirdPartyLicences = {
  name: 'licences',
  generateBundle(_options, bundle) {
    const modules = Object.values(bundle).flatMap((chunk) => Object.keys(chunk.modules ?? {}));
    const foreign = modules
      .map((one) => one.replace(/^\0|\?.*$/g, ''))
      .filter((one) => /[\\/]node_modules[\\/]/.test(one));
    const packages = new Map(foreign.map(packageOf).map((one) => [`${one.name} ${one.version}`, one]));
    const notices = [...packages.keys()].sort().map((key) => noticeOf(packages.get(key)));
    const source = `${notices.join(`\n\n${'-'.repeat(78)}\n\n`)}\n`;
    this.emitFile({ type: 'asset', fileName: 'THIRD-PARTY-LICENCES.txt', source });
  },
};

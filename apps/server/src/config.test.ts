import { expect, it } from 'vitest';
import { readConfig } from './config.ts';

it.each([
  'postgres://u:p@h/db',
  'postgres://h',
  'postgres:///db?host=/run/postgresql',
  'postgres://u:p@/db?host=/run/postgresql',
  'postgresql://u:p%23@[::1]:5432/db',
  'postgres://u:a b@h/db',
  'postgres://u:\u00fc%@h/db',
])('%s is where a database is', (url) => {
  expect(readConfig({ DATABASE_URL: url }).databaseUrl).toBe(url);
});

it.each([
  'postgres://u:p#ss@h/db',
  'postgres://u:p/ss@h/db',
  'postgres://u:p?ss@h/db',
  'postgres://u:p@h:99999/db',
  'mysql://h/db',
])('%s is none, and the variable is named', (url) => {
  expect(() => readConfig({ DATABASE_URL: url })).toThrow(
    expect.objectContaining({ code: 'CONNECTION_INVALID', message: expect.stringContaining('DATABASE_URL') }),
  );
});

it('a request is no larger than the database can hold', () => {
  const most = (environment: NodeJS.ProcessEnv) => () => readConfig(environment).bodyBytes / 1_048_576;
  const server = { DATABASE_URL: 'postgres://u:p@h/db' };
  expect(most({ FLOWPOST_BODY_MIB: '85' })()).toBe(85);
  expect(most({ FLOWPOST_BODY_MIB: '200', ...server })()).toBe(200);
  for (const environment of [{ FLOWPOST_BODY_MIB: '86' }, { FLOWPOST_BODY_MIB: '201', ...server }])
    expect(most(environment)).toThrow(/FLOWPOST_BODY_MIB/);
});

import { expect, it } from 'vitest';
import { responseName } from './response-name.ts';

const name = (disposition: string | undefined, path = '/', type?: string) =>
  responseName(disposition, new URL(path, 'https://x.org'), type);

it.each([
  ['attachment; filename="a.pdf"', 'a.pdf'],
  ['attachment; filename="fallback.pdf"; filename*=UTF-8\'\'Gr%C3%B6%C3%9Fe.pdf', 'Größe.pdf'],
  [Buffer.from('attachment; filename="Größe.pdf"').toString('latin1'), 'Größe.pdf'],
  ['attachment; filename="Gr\xf6\xdfe.pdf"', 'Größe.pdf'],
  ['inline; filename="../../etc/passwd"', 'passwd'],
  ['attachment; filename="C:\\\\x\\\\a.txt"', 'a.txt'],
  ["attachment; filename*=UTF-8''a%0d%0aBcc:%20e.txt", 'aBcc: e.txt'],
  ["attachment; filename*=UTF-8''x%E2%80%AEfdp.exe", 'xfdp.exe'],
])('%s gives %s', (disposition, expected) => {
  expect(name(disposition)).toBe(expected);
});

it.each([
  ['/reports/a%20b.pdf', undefined, 'a b.pdf'],
  ['/reports/%FF.pdf', undefined, '%FF.pdf'],
  ['/download', 'application/pdf; x=y', 'download.pdf'],
  ['/download', undefined, 'download'],
  ['/%2e%2e%2fa.txt', undefined, 'a.txt'],
  ['/', 'application/pdf', undefined],
  ['/a/..%2f', undefined, undefined],
])('the path %s of type %s gives %s', (path, type, expected) => {
  expect(name(undefined, path, type)).toBe(expected);
  expect(name('attachment', path, type)).toBe(expected);
});

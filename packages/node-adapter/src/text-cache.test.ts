import { expect, it } from 'vitest';
import { TextCache } from './text-cache.ts';

it('makes something of a text once, and keeps only so many', () => {
  const made: string[] = [];
  const cache = new TextCache((text) => {
    made.push(text);
    return text.length;
  });
  expect([cache.get('one'), cache.get('one'), cache.get('three')]).toEqual([3, 3, 5]);
  expect(made).toEqual(['one', 'three']);
  for (let number = 0; number < 1_000; number++) cache.get(`another ${number}`);
  cache.get('one');
  expect(made.filter((text) => text === 'one')).toHaveLength(2);
  const large = 'x'.repeat(6_000_000);
  expect(cache.get(large)).toBe(6_000_000);
  cache.get('one');
  expect(made.filter((text) => text === 'one')).toHaveLength(3);
});

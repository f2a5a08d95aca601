import { expect, it } from 'vitest';
import { serverId } from './server-id.ts';

it.each([
  ['250 2.0.0 Ok: queued as 4QxYzB1', '4QxYzB1'],
  ['250 OK id=1rAbCd-0001Xy-Zz', '1rAbCd-0001Xy-Zz'],
  ['250 2.0.0 OK  1700000000 ab12cd.34 - gsmtp', '1700000000 ab12cd.34'],
  ['250 2.6.0 <abc@mail.example.com> [InternalId=1] Queued mail for delivery', '<abc@mail.example.com>'],
  ['250 2.0.0 <bob@x.org> 1kUVNWLsCWteCgAAg+zDdQ Saved', '1kUVNWLsCWteCgAAg+zDdQ'],
  ['250 2.0.0 <bob@x.org> delivered', undefined],
])('%s: %s', (response, id) => {
  expect(serverId(response, ['bob@x.org'])).toBe(id);
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatAddress, parseAddresses } from './address.ts';
import { isMailError } from './errors/mail-error.ts';

const safeText = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 30 })
  .filter((text) => text.isWellFormed() && !/[\x00-\x08\x0a-\x1f\x7f-\x9f]/.test(text) && text.trim() !== '');
const local = safeText.filter((text) => Buffer.byteLength(JSON.stringify(text)) < 60 && !/[<>]/.test(text));
const domain = fc.oneof(fc.domain(), fc.constantFrom('münchen.de', 'пример.рф', 'localhost', '[192.0.2.7]'));
const mailbox = fc.record({ name: fc.option(safeText, { nil: undefined }), local, domain });

it('parse, format, parse gives the same mailboxes', () => {
  fc.assert(
    fc.property(fc.array(mailbox, { minLength: 1, maxLength: 5 }), (mailboxes) => {
      const first = parseAddresses(
        mailboxes.map(({ name, local, domain }) => {
          const address = `"${local.replace(/["\\]/g, '\\$&')}"@${domain}`;
          return name === undefined ? { address } : { name, address };
        }),
      );
      expect(parseAddresses(first.map(formatAddress).join(', '))).toEqual(first);
      expect(parseAddresses(first.map(formatAddress))).toEqual(first);
      first.forEach(({ name }, index) => {
        expect(name).toBe(mailboxes[index]?.name);
      });
    }),
  );
});

it('any text is either read or refused with a typed error, and what is read survives formatting', () => {
  const lists = fc.array(
    fc.oneof(fc.constantFrom(...'<>()[]",;:@\\ .a=?\t'), fc.constantFrom('a@b.c', '"x"', '\r\n', 'ü', '(c)')),
  );
  fc.assert(
    fc.property(lists, (parts) => {
      try {
        const addresses = parseAddresses(parts.join(''));
        for (const { address } of addresses) expect(address).not.toMatch(/[\x00-\x08\x0a-\x1f\x7f]/);
        expect(parseAddresses(addresses.map(formatAddress).join(','))).toEqual(addresses);
      } catch (error) {
        if (!isMailError(error)) throw error;
        expect(error.code).toBe('ADDRESS_INVALID');
      }
    }),
  );
});

import { describe, expect, it } from 'vitest';
import {
  type AddressProblem,
  formatAddress,
  needsSmtpUtf8,
  parseAddresses,
  sameMailbox,
  toWireAddress,
} from './address.ts';
import { isMailError } from './errors/mail-error.ts';

function problemsOf(input: unknown): readonly AddressProblem[] {
  try {
    parseAddresses(input as string);
  } catch (error) {
    if (isMailError(error)) {
      expect(error).toMatchObject({
        code: 'ADDRESS_INVALID',
        category: 'input',
        phase: 'validate',
        retryable: false,
      });
      return error.details.problems as AddressProblem[];
    }
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(input)}`);
}

describe('parseAddresses reads', () => {
  it.each<[string, unknown, unknown[]]>([
    ['one address', 'a@example.com', [{ address: 'a@example.com' }]],
    ['nothing', '  ', []],
    [
      'a list with names',
      'Bob <b@example.com>, c@example.com',
      [{ name: 'Bob', address: 'b@example.com' }, { address: 'c@example.com' }],
    ],
    ['a quoted name with a comma', '"Doe, Jane" <j@x.org>', [{ name: 'Doe, Jane', address: 'j@x.org' }]],
    ['quoted pairs', '"a \\"b\\" \\\\c" <j@x.org>', [{ name: 'a "b" \\c', address: 'j@x.org' }]],
    ['a name with dots', 'Dr. J. Müller <m@x.org>', [{ name: 'Dr. J. Müller', address: 'm@x.org' }]],
    ['a name with an @', 'a@x.org <a@x.org>', [{ name: 'a@x.org', address: 'a@x.org' }]],
    ['a comment as the name', 'm@x.org (Max (the) Meyer)', [{ name: 'Max (the) Meyer', address: 'm@x.org' }]],
    ['a comment beside a name', 'Max (old) <m@x.org> (new)', [{ name: 'Max', address: 'm@x.org' }]],
    ['a group', 'Team: a@x.org, B <b@x.org>;', [{ address: 'a@x.org' }, { name: 'B', address: 'b@x.org' }]],
    ['an empty group', 'undisclosed-recipients:;', []],
    [
      'a group in a list',
      'a@x.org, G: b@x.org;, c@x.org',
      ['a', 'b', 'c'].map((n) => ({ address: `${n}@x.org` })),
    ],
    ['a quoted local part', '"john doe"@x.org', [{ address: '"john doe"@x.org' }]],
    ['a needlessly quoted local part', '"john"@x.org', [{ address: 'john@x.org' }]],
    ['an address literal', 'a@[192.0.2.1]', [{ address: 'a@[192.0.2.1]' }]],
    ['an IDN domain', 'a@münchen.de', [{ address: 'a@münchen.de' }]],
    ['a Unicode local part', 'грета@пример.рф', [{ address: 'грета@пример.рф' }]],
    ['a plus tag', "o'hara+tag@x.org", [{ address: "o'hara+tag@x.org" }]],
    ['an object', { name: 'A', address: 'a@x.org' }, [{ name: 'A', address: 'a@x.org' }]],
    ['a null name', { name: null, address: 'a@x.org' }, [{ address: 'a@x.org' }]],
    [
      'nested mixes',
      ['a@x.org, b@x.org', [{ address: 'c@x.org' }, ['D <d@x.org>']]],
      [
        { address: 'a@x.org' },
        { address: 'b@x.org' },
        { address: 'c@x.org' },
        { name: 'D', address: 'd@x.org' },
      ],
    ],
  ])('%s', (_, input, expected) => {
    expect(parseAddresses(input as string)).toEqual(expected);
  });
});

describe('parseAddresses names the bad part and its position', () => {
  it('for every bad part at once', () => {
    expect(problemsOf('a@b, , c@')).toEqual([
      { part: '', entry: 2, position: 6, reason: 'it is empty' },
      { part: 'c@', entry: 3, position: 8, reason: 'there is no domain after the @' },
    ]);
  });

  it.each<[string, unknown, Partial<AddressProblem>]>([
    ['a trailing comma', 'a@x.org,', { entry: 2, position: 9, part: '' }],
    [
      'semicolons',
      'a@x.org; b@x.org',
      { entry: 1, reason: 'addresses are separated by commas, not semicolons' },
    ],
    ['no @', 'someone', { part: 'someone' }],
    ['an unquoted comma in a name', 'Doe, Jane <j@x.org>', { part: 'Doe', entry: 1 }],
    ['no local part', '@x.org', { reason: 'there is no name before the @' }],
    ['a space in an address', 'a b@x.org', { part: 'a b@x.org' }],
    ['two dots', 'a..b@x.org', { part: 'a..b@x.org' }],
    ['a bad domain', 'a@-x.org', { reason: '"-x.org" is not a valid domain' }],
    ['a domain with an empty label', 'a@x..org', { part: 'a@x..org' }],
    ['an open quotation mark', '"a <a@x.org>', { reason: 'the quotation mark is not closed' }],
    ['an open bracket', 'A <a@x.org', { reason: 'the angle bracket is not closed' }],
    ['an open comment', 'a@x.org (b', { reason: 'the parenthesis is not closed' }],
    ['an open group', 'G: a@x.org', { reason: 'the group is not closed by a semicolon' }],
    ['text after the address', 'A <a@x.org> b', { reason: 'there is text after the address' }],
    [
      'two addresses in one entry',
      '<a@x.org> <b@x.org>',
      { reason: 'there is more than one address in angle brackets' },
    ],
    ['a line break', 'a@x.org\r\nBcc: evil@x.org', { position: 8 }],
    ['a NUL', 'a\0@x.org', { position: 2 }],
    ['a line break in an object', { address: 'a@x.org\n'.concat('b') }, { position: 1 }],
    ['a line break in a name', { name: 'A\r\nB', address: 'a@x.org' }, { part: 'A\r\nB' }],
    ['a list inside an object', { address: 'a@x.org, b@x.org' }, { entry: 1 }],
    [
      'a long local part',
      `${'a'.repeat(65)}@x.org`,
      { reason: 'the name before the @ is longer than 64 octets' },
    ],
    ['an empty array element', ['a@x.org', ''], { entry: 2, reason: 'it is empty' }],
    ['a < or > that would end an address', '<"a>b"@x.org>', { reason: 'there is a < or > before the @' }],
    ['an SMTP parameter behind an IDN domain', { address: 'é@é.com/ NOTIFY=NEVER' }, { position: 1 }],
    ['a header behind an IDN domain', { address: 'é@é.com/>, victim' }, { position: 1 }],
    ['a path behind an IDN domain', 'a@é.com/other.example', { position: 1 }],
    ['an escape in an IDN domain', 'a@é%2ecom', { position: 1 }],
    ['a tab in an IDN domain', 'é@é\t.com', { position: 1 }],
    ['an IPv4 address without brackets', 'a@192.0.2.1', { position: 1 }],
    ['the same in other digits', 'a@１９２.0.2.1', { position: 1 }],
    ['an impossible address literal', 'a@[999.1.1.1]', { position: 1 }],
    ['a very long part, shortened', 'x'.repeat(5_000), { part: `${'x'.repeat(100)}...` }],
    ['a number', [5], { part: '5' }],
    ['null in a list', ['a@x.org', null], { entry: 2, part: 'null' }],
    ['a JSON list in text', '["a@x.org"]', { entry: 1 }],
  ])('%s', (_, input, expected) => {
    expect(problemsOf(input)[0]).toMatchObject(expected);
  });
});

it('lists nested without end are refused', () => {
  const endless: unknown[] = [];
  endless.push(endless);
  expect(problemsOf(endless)[0]).toMatchObject({ reason: 'the lists are nested too deeply' });
});

it('hostile lists take no more than linear time', () => {
  const n = 100_000;
  const hostile = [
    `["${'\\"'.repeat(n)}"] <x@y.z>`,
    `a${' '.repeat(n)}b <x@y.z>`,
    `${'x'.repeat(n)}@${':'.repeat(n)}`,
    '('.repeat(n),
    `"${'\\'.repeat(n)}`,
    `${'a.'.repeat(n)}@x.org`,
    '<'.repeat(n),
  ];
  // Quadratic, any of these takes many seconds and so fails by the test's time limit.
  for (const text of hostile) {
    try {
      parseAddresses(text);
    } catch (error) {
      expect(isMailError(error)).toBe(true);
    }
  }
});

describe('formatAddress', () => {
  it.each([
    [{ address: 'a@x.org' }, 'a@x.org'],
    [{ name: 'Jörg Müller', address: 'a@x.org' }, 'Jörg Müller <a@x.org>'],
    [{ name: 'Doe, "J"', address: 'a@x.org' }, '"Doe, \\"J\\"" <a@x.org>'],
  ])('%j', (address, text) => {
    expect(formatAddress(address)).toBe(text);
  });
});

describe('on the wire', () => {
  it('turns an IDN domain into A-labels, whatever the local part', () => {
    expect(toWireAddress('a@münchen.de')).toBe('a@xn--mnchen-3ya.de');
    expect(toWireAddress('jörg@münchen.de')).toBe('jörg@xn--mnchen-3ya.de');
    expect([needsSmtpUtf8('a@münchen.de'), needsSmtpUtf8('jörg@x.org')]).toEqual([false, true]);
  });
});

describe('sameMailbox', () => {
  it.each([
    ['a@x.org', 'A@X.ORG', true],
    ['a.b+news@gmail.com', 'ab@googlemail.com', true],
    ['a+news@outlook.com', 'a@outlook.com', true],
    ['a+news@x.org', 'a@x.org', false],
    ['a.b@outlook.com', 'ab@outlook.com', false],
    ['a@münchen.de', 'a@XN--MNCHEN-3YA.de', true],
    ['a@x.org', 'b@x.org', false],
  ])('%s and %s: %s', (a, b, same) => {
    expect(sameMailbox(a, b)).toBe(same);
  });
});

describe('names and addresses as others write them', () => {
  it.each([
    ['=?UTF-8?Q?Bj=C3=B6rn?= <b@x.de>', 'Bj\u00f6rn'],
    ['=?iso-8859-1?B?SvZyZw==?= =?utf-8?q?_M?= <b@x.de>', 'J\u00f6rg M'],
    ['"=?UTF-8?Q?Bj=C3=B6rn?=" <b@x.de>', '=?UTF-8?Q?Bj=C3=B6rn?='],
    ['=?nonsense?Q?a?= <b@x.de>', '=?nonsense?Q?a?='],
  ])('%s is called %s', (text, name) => {
    expect(parseAddresses(text)).toEqual([{ name, address: 'b@x.de' }]);
    expect(parseAddresses(formatAddress({ name, address: 'b@x.de' }))).toEqual([{ name, address: 'b@x.de' }]);
  });

  it('an encoded word brings in no line break', () => {
    expect(() => parseAddresses('=?UTF-8?Q?a=0D=0ABcc?= <b@x.de>')).toThrow('control character');
  });

  it('a name with a period is written in quotation marks', () => {
    expect(formatAddress({ name: 'John Q. Public', address: 'j@x.de' })).toBe('"John Q. Public" <j@x.de>');
  });

  it('a byte order mark is no part of a mailbox, and a long domain is measured as it travels', () => {
    expect(() => parseAddresses('\ufeffanna@x.de')).toThrow('U+FEFF');
    expect(() => parseAddresses(`${'x'.repeat(64)}@${'\u00fc.'.repeat(30)}de`)).toThrow('254 octets');
  });
});

import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { isRetryable, phases } from '../phase.ts';
import { errorCodes } from './error-codes.ts';
import { copyMailError, isMailError, MailError, toMailError } from './mail-error.ts';

describe('retryable and inDoubt follow from phase and reply code', () => {
  it.each([
    ['CONNECTION_LOST', 'connect', undefined, true, false],
    ['CONNECTION_LOST', 'data', undefined, true, false],
    ['DELIVERY_IN_DOUBT', 'confirm', undefined, false, true],
    ['MESSAGE_DEFERRED', 'confirm', 451, true, false],
    ['MESSAGE_REFUSED', 'confirm', 554, false, false],
    ['RECIPIENTS_REFUSED', 'envelope', 550, false, false],
    ['AUTH_REFUSED', 'auth', 535, false, false],
    ['INPUT_INVALID', 'validate', undefined, false, false],
    ['TLS_CERTIFICATE_EXPIRED', 'tls', undefined, false, false],
  ] as const)('%s in %s after %s', (code, phase, replyCode, retryable, inDoubt) => {
    expect(new MailError(code, 'x', { phase, replyCode })).toMatchObject({ retryable, inDoubt });
  });

  it('nothing in doubt is ever retryable', () => {
    for (const phase of phases) {
      const error = new MailError('CONNECTION_LOST', 'x', { phase, retryable: true });
      expect(error.inDoubt && error.retryable).toBe(false);
    }
  });
});

describe('MailError', () => {
  const error = new MailError('AUTH_REFUSED', 'no', {
    phase: 'auth',
    details: { reply: '535 no' },
    cause: new Error('hunter2'),
  });

  it('is recognised by its marker, not by its class', () => {
    expect(isMailError(error)).toBe(true);
    expect(isMailError({ ...error, [Symbol.for('flowpost.mail-error')]: true })).toBe(true);
    expect([undefined, null, 'x', new Error('x'), {}].map(isMailError)).toEqual(Array(5).fill(false));
  });

  it('serialises to the documented fields, without cause and stack', () => {
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      code: 'AUTH_REFUSED',
      category: 'authentication',
      phase: 'auth',
      retryable: false,
      inDoubt: false,
      hint: errorCodes.AUTH_REFUSED.hint,
      message: 'no',
      details: { reply: '535 no' },
    });
  });

  it('wraps anything else as a defect', () => {
    expect(toMailError(error)).toBe(error);
    expect(toMailError(new TypeError('boom'), 'data')).toMatchObject({ code: 'INTERNAL', phase: 'data' });
    expect(inspect(toMailError('text'))).toContain('text');
  });
});

it('a copy may be tried again, and is in doubt, as what it is a copy of', () => {
  const store = new MailError('TOKEN_STORE_FAILED', 'x', { phase: 'token', retryable: true });
  expect(copyMailError(store)).toMatchObject({ retryable: true, inDoubt: false });
  const putOff = new MailError('MESSAGE_DEFERRED', 'x', { phase: 'confirm', replyCode: 450 });
  expect(copyMailError(putOff)).toMatchObject({ retryable: true, inDoubt: false });
  expect(isRetryable('confirm')).toBe(false);
});

it('every code has a hint that is a sentence', () => {
  for (const [code, { hint }] of Object.entries(errorCodes)) {
    expect(hint, code).toMatch(/^[A-Z].{15,}\.$/);
    expect(code).toMatch(/^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$/);
  }
});

it('the codes are a published list: removing or renaming one breaks its users', () => {
  expect(Object.keys(errorCodes).toSorted()).toMatchSnapshot();
});

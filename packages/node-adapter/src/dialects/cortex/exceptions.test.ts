import { MailError } from '@flowpost/core';
import { describe, expect, it } from 'vitest';
import { describeCortexError } from './exceptions.ts';

describe('exceptions by code', () => {
  it.each([
    ['CTX-26', 'CONNECTION_UNREACHABLE', 'connect', 100],
    ['CTX-26', 'CONNECTION_LOST', 'greeting', 100],
    ['CTX-27', 'DNS_UNAVAILABLE', 'resolve', 101],
    ['CTX-33', 'CONNECTION_INVALID', 'auth', 300],
  ] as const)('[%s] %s in phase %s is %d', (_, code, phase, number) => {
    const error = new MailError(code, 'x', { phase, details: { host: 'h', port: 25 } });
    expect(describeCortexError(error, 'smtp').platform).toMatchObject({
      name: 'EmailSessionException',
      number,
    });
    // The block for Microsoft 365 has no host and no switch for SSL that one could be about.
    expect(describeCortexError(error, 'microsoft365').platform?.number).toBe(
      number < 300 ? undefined : number,
    );
  });

  it.each([
    ['ATTACHMENT_UNREADABLE', 'IOException'],
    ['ATTACHMENT_CHANGED', 'IOException'],
    ['ATTACHMENT_NOT_FOUND', 'FileNotFoundException'],
  ] as const)('[CTX-34] %s is %s, and names the attachment', (code, name) => {
    const error = new MailError(code, 'x', { details: { position: 2 } });
    expect(describeCortexError(error, 'smtp').platform).toMatchObject({
      name,
      property: 'EmailMessage.Attachments[1]',
    });
  });

  it('of several mistakes the one that has an exception of its own', () => {
    const issues = [
      { path: 'Subjekt', message: 'there is no such setting' },
      { path: 'EmailMessage.To', message: 'it is null', problem: 'null' },
    ];
    const error = new MailError('INPUT_INVALID', 'x', { details: { issues } });
    expect(describeCortexError(error, 'smtp').platform).toMatchObject({
      name: 'PropertyNullException',
      property: 'EmailMessage.To',
    });
  });
});

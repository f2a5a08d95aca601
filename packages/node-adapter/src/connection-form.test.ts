import { describe, expect, it } from 'vitest';
import { connectionForm, connectionOfForm } from './connection-form.ts';

const at = { kind: 'smtp', host: 'mail.example.com' };

describe('the form of a mail server', () => {
  it.each([
    ['text', '{"serverName":"mail.internal"}'],
    ['an object', { serverName: 'mail.internal' }],
  ])('takes TLS options as %s', (_how, tlsOptions) => {
    const { tlsOptions: read } = connectionOfForm({ ...at, tlsOptions }) as { tlsOptions?: object };
    expect(read).toEqual({ serverName: 'mail.internal' });
  });

  it.each(['', '{}', ' ', null, undefined])('takes %j as no TLS options', (tlsOptions) => {
    const application = { tenantId: 'contoso.com', clientId: 'c', clientSecret: 's', user: 'u@contoso.com' };
    for (const form of [at, { kind: 'microsoft365', delivery: 'graph', ...application }])
      expect(connectionOfForm({ ...form, tlsOptions })).not.toHaveProperty('tlsOptions');
  });

  it.each(['{"serverName":', '["ca"]', '{"trust":"all"}'])(
    'says that %j are no TLS options',
    (tlsOptions) => {
      expect(() => connectionOfForm({ ...at, tlsOptions })).toThrow(
        expect.objectContaining({
          code: 'CONNECTION_INVALID',
          message: expect.stringContaining('tlsOptions'),
        }),
      );
    },
  );

  it.each<[Readonly<Record<string, unknown>>, RegExp]>([
    ...['{bad', '[]', '[""]', '7', '"x"'].map(
      (tlsOptions): [object & Readonly<Record<string, unknown>>, RegExp] => [
        { ...at, tlsOptions },
        /tlsOptions: they are no object/,
      ],
    ),
    [{ kind: 'other' }, /connection: it is missing/],
    [{ kind: 'other', connection: ' ' }, /connection: it is missing/],
  ])('%j is said to be what it is', (values, message) => {
    expect(() => connectionOfForm(values)).toThrow(
      expect.objectContaining({ code: 'CONNECTION_INVALID', message: expect.stringMatching(message) }),
    );
  });

  it('asks nothing of fields that are hidden for a kind', () => {
    const connection = 'smtp://mail.example.com';
    expect(connectionOfForm({ kind: 'other', connection, tlsOptions: '{bad', host: '' })).toMatchObject({
      host: 'mail.example.com',
    });
  });

  it('has checkboxes for what is safe in some networks only, and for rights from Exchange', () => {
    expect(connectionOfForm({ ...at, allowPlaintextAuth: 'true' })).toMatchObject({
      allowPlaintextAuth: true,
    });
    const application = { tenantId: 'contoso.com', clientId: 'c', clientSecret: 's', user: 'u@contoso.com' };
    const given = connectionOfForm({ kind: 'microsoft365', ...application, exchangeRbac: true });
    expect(given).toMatchObject({ auth: { exchangeRbac: true } });
    // Filled in for another kind, which is hidden by now.
    expect(connectionOfForm({ ...at, exchangeRbac: true, tenantId: 'x' })).toMatchObject({ host: at.host });
    const fields = connectionForm.flatMap((section) => section.fields.map(({ name }) => name));
    expect(fields).toEqual(expect.arrayContaining(['tlsOptions', 'allowPlaintextAuth', 'exchangeRbac']));
  });
});

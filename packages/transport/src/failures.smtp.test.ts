import type { Socket } from 'node:net';
import { inspect } from 'node:util';
import {
  type ConnectionInput,
  type ErrorCode,
  type MailError,
  MemoryLogger,
  type Phase,
  toMailError,
} from '@flowpost/core';
import {
  createTestCertificates,
  RawServer,
  SmtpInbox,
  type SmtpInboxOptions,
  speakSmtp,
  type TestCertificates,
} from '@flowpost/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { createSender } from './create-sender.ts';
import type { SenderOptions } from './sending.ts';

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
const password = 'hunter2-S3cret!';
const auth = { kind: 'basic', username: 'me', password } as const;
const users = { me: 'something else' };
const forms = [
  password,
  Buffer.from(password).toString('base64'),
  Buffer.from(`\0me\0${password}`).toString('base64'),
];
const lookup: SenderOptions['lookup'] = async () => [{ address: '127.0.0.1', family: 4 }];
const quick = { connectMs: 2_000, greetingMs: 400, commandMs: 400, dataMs: 400, confirmMs: 400 };

let certificates: TestCertificates;
beforeAll(async () => {
  certificates = await createTestCertificates(['localhost', '127.0.0.1', 'mail.example.test']);
});

/** The error of a send that must fail, after making sure that nothing about it shows a secret. */
async function failureOf(connection: object | string, text = 'Hello'): Promise<MailError> {
  const logger = new MemoryLogger();
  try {
    await using sender = createSender(connection as ConnectionInput, { lookup, logger });
    await sender.send({ ...message, text });
  } catch (thrown) {
    const error = toMailError(thrown);
    const shown = [
      inspect(error, { depth: 9, showHidden: true }),
      JSON.stringify(error),
      String(error),
      error.stack,
      inspect(logger.entries, { depth: 9 }),
    ].join();
    for (const form of forms) expect(shown).not.toContain(form);
    expect(error.hint).not.toBe('');
    return error;
  }
  throw new Error('sent');
}

async function failureAt(server: SmtpInboxOptions, connection: object = {}): Promise<[MailError, SmtpInbox]> {
  await using inbox = await SmtpInbox.start(server);
  const error = await failureOf({ host: '127.0.0.1', port: inbox.port, auth, ...connection });
  expect(inbox.messages).toEqual([]);
  return [error, inbox];
}

/** A server that is not quite one, for the length of one function. */
async function withServer<Result>(
  serve: (socket: Socket) => void,
  use: (port: number) => Promise<Result>,
): Promise<Result> {
  await using server = await RawServer.start(serve);
  return await use(server.port);
}

describe('what cannot be a connection', () => {
  it.each<[string | object, ErrorCode]>([
    ['smtp://x.org:0', 'CONNECTION_INVALID'],
    ['smtp://x.org:70000', 'CONNECTION_INVALID'],
    [`smtp://me:${password}@x.org:smtp`, 'CONNECTION_INVALID'],
    ['not a url', 'CONNECTION_INVALID'],
    [{ service: 'Gmial', auth }, 'SERVICE_UNKNOWN'],
    [{ host: 'x.org', auth, tlsOptions: { caFile: '/nonexistent/ca.pem' } }, 'CONNECTION_INVALID'],
  ])('%j: %s', async (connection, code) => {
    expect(await failureOf(connection)).toMatchObject({
      code,
      category: 'configuration',
      phase: 'validate',
      retryable: false,
    });
  });

  it('an unknown service names similar ones', async () => {
    expect((await failureOf({ service: 'Zohoo' })).details).toEqual({ service: 'Zohoo', similar: ['Zoho'] });
  });
});

describe('what cannot be reached', () => {
  it('a closed port', async () => {
    const port = await withServer(
      () => undefined,
      async (port) => port,
    );
    expect(await failureOf({ host: '127.0.0.1', port })).toMatchObject({
      code: 'CONNECTION_REFUSED',
      phase: 'connect',
      retryable: true,
      details: { host: '127.0.0.1', port, reason: 'ECONNREFUSED' },
    });
  });

  it('an unknown host', async () => {
    const error = await failureOf({ host: 'nowhere.invalid' });
    expect(error).toMatchObject({ code: 'HOST_NOT_FOUND', phase: 'resolve', retryable: false });
  });

  it.each([
    ['ENOTFOUND', 'HOST_NOT_FOUND', false],
    ['EAI_AGAIN', 'DNS_UNAVAILABLE', true],
  ])('a lookup that fails with %s', async (reason, code, retryable) => {
    const failing = async () => Promise.reject(Object.assign(new Error(reason), { code: reason }));
    await using sender = createSender({ host: 'mail.example.test' }, { lookup: failing });
    await expect(sender.send(message)).rejects.toMatchObject({ code, phase: 'resolve', retryable });
  });
});

describe('TLS', () => {
  const trusted = () => ({ tlsOptions: { ca: certificates.authority.cert }, timeouts: quick });

  it.each(['implicit', 'starttls'] as const)(
    'tells bad certificates apart over %s, before any login',
    async (tls) => {
      const codes: Record<string, ErrorCode> = {};
      for (const kind of ['expired', 'notYetValid', 'wrongHost', 'selfSigned'] as const) {
        const [error, inbox] = await failureAt(
          { tls, certificate: certificates[kind], users },
          { tls, ...trusted() },
        );
        expect(error).toMatchObject({ phase: 'tls', category: 'tls', retryable: false });
        expect(inbox.authAttempts).toEqual([]);
        codes[kind] = error.code;
      }
      const [untrusted] = await failureAt({ tls, certificate: certificates.valid, users }, { tls });
      expect({ ...codes, untrusted: untrusted.code }).toEqual({
        expired: 'TLS_CERTIFICATE_EXPIRED',
        notYetValid: 'TLS_CERTIFICATE_NOT_YET_VALID',
        wrongHost: 'TLS_CERTIFICATE_WRONG_HOST',
        selfSigned: 'TLS_CERTIFICATE_UNTRUSTED',
        untrusted: 'TLS_CERTIFICATE_UNTRUSTED',
      });
    },
  );

  it('names the hosts a wrong certificate is for', async () => {
    const [error] = await failureAt(
      { tls: 'implicit', certificate: certificates.wrongHost },
      { tls: 'implicit', ...trusted() },
    );
    expect(error.details.certificateNames).toEqual(['other.example']);
  });

  it('implicit TLS on a plain port, and the reverse', async () => {
    const [implicit] = await failureAt({ users }, { tls: 'implicit', ...trusted() });
    expect(implicit).toMatchObject({
      code: 'TLS_WRONG_MODE',
      category: 'configuration',
      phase: 'tls',
      retryable: false,
    });
    for (const tls of ['starttls', 'starttls-if-offered', 'none'] as const) {
      const [plain] = await failureAt(
        { tls: 'implicit', certificate: certificates.valid, users },
        { tls, ...trusted() },
      );
      expect(plain).toMatchObject({ code: 'TLS_WRONG_MODE', category: 'configuration', phase: 'tls' });
    }
    // A handshake that is refused is TLS all the same.
    const tlsVersions = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' } as const;
    const [old] = await failureAt(
      { tls: 'implicit', certificate: certificates.valid, users, tlsVersions },
      { tls: 'starttls', ...trusted() },
    );
    expect(old.code).toBe('TLS_WRONG_MODE');
  });

  it('a server without STARTTLS when it is required', async () => {
    const [error, inbox] = await failureAt({ users }, { tls: 'starttls' });
    expect(error).toMatchObject({ code: 'TLS_NOT_OFFERED', category: 'tls', phase: 'tls', retryable: false });
    expect(inbox.authAttempts).toEqual([]);
    // The default mode requires it for every host that is not loopback.
    const [byDefault] = await failureAt({ users }, { host: 'mail.example.test' });
    expect(byDefault.code).toBe('TLS_NOT_OFFERED');
  });

  it('what comes in clear behind the yes to STARTTLS', async () => {
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return '250-x\r\n250 STARTTLS';
        return command === 'STARTTLS' ? '220 go on\r\n250-x\r\n250 AUTH PLAIN' : undefined;
      }),
    );
    await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=starttls`);
    await expect(sender.send({ from: 'a@x.org', to: 'b@x.org', text: 'Hi' })).rejects.toMatchObject({
      ...{ code: 'TLS_INJECTION', phase: 'tls', retryable: false },
    });
  });

  it('a protocol that is too old', async () => {
    const server = {
      tls: 'implicit',
      certificate: certificates.valid,
      tlsVersions: { maxVersion: 'TLSv1.2' },
    } as const;
    const [error] = await failureAt(server, {
      tls: 'implicit',
      tlsOptions: { ca: certificates.authority.cert, minVersion: 'TLSv1.3' },
    });
    expect(error).toMatchObject({ code: 'TLS_PROTOCOL_TOO_OLD', phase: 'tls' });
  });
});

describe('logging in', () => {
  it.each(['none', 'starttls-if-offered'])(
    'never sends a password in clear to a host that is not loopback (%s)',
    async (tls) => {
      const [error, inbox] = await failureAt({ users }, { host: 'mail.example.test', tls });
      expect(error).toMatchObject({
        code: 'AUTH_IN_CLEAR_REFUSED',
        phase: 'auth',
        category: 'configuration',
      });
      expect(inbox.authAttempts).toEqual([]);
      const [allowed, asked] = await failureAt(
        { users },
        { host: 'mail.example.test', tls, allowPlaintextAuth: true },
      );
      expect([allowed.code, asked.authAttempts]).toEqual(['AUTH_REFUSED', ['PLAIN']]);
    },
  );

  it.each([
    [{ code: 535, text: `5.7.8 wrong: ${password}` }, 'AUTH_REFUSED', 'authentication', false],
    [
      { code: 454, text: `4.7.0 later ${Buffer.from(`\0me\0${password}`).toString('base64')}` },
      'AUTH_DEFERRED',
      'temporary',
      true,
    ],
  ] as const)('%j, which echoes the secret', async (refusal, code, category, retryable) => {
    const [error] = await failureAt({ users, refuse: { auth: () => refusal } });
    expect(error).toMatchObject({ code, category, retryable, phase: 'auth', inDoubt: false });
    expect(error.details).toMatchObject({
      replyCode: refusal.code,
      reply: expect.stringContaining('***'),
      mechanism: 'PLAIN',
    });
  });

  it('echoed in pieces, and as the name of a mechanism', async () => {
    const plain = Buffer.from(`\0me\0${password}`).toString('base64');
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return '250-x\r\n250 AUTH PLAIN';
        if (!command.startsWith('AUTH')) return undefined;
        return `535-5.7.8 cannot read ${plain.slice(0, 17)}\r\n535 5.7.8 ${plain.slice(17)}`;
      }),
    );
    const auth = { kind: 'basic', username: 'me', password } as const;
    await using sender = createSender({ host: '127.0.0.1', port: server.port, auth });
    const error = await sender.send(message).catch((thrown) => thrown);
    expect(error.code).toBe('AUTH_REFUSED');
    expect(error.details.reply).toBe('535-5.7.8 cannot read ***\n535 5.7.8 ***');
    await using odd = await RawServer.start((socket) =>
      speakSmtp(socket, (command) =>
        command.startsWith('EHLO') ? `250-x\r\n250 AUTH ${password}` : undefined,
      ),
    );
    await using other = createSender({ host: '127.0.0.1', port: odd.port, auth });
    expect((await other.send(message).catch((thrown) => thrown)).details.offered).toEqual(['***']);
  });

  it('where it is not offered, or not in a way we know', async () => {
    expect((await failureAt({}))[0]).toMatchObject({ code: 'AUTH_NOT_OFFERED', phase: 'auth' });
    const [error] = await failureAt({ tokens: { me: 'token' } });
    expect(error).toMatchObject({ code: 'AUTH_MECHANISM_UNAVAILABLE', details: { offered: ['XOAUTH2'] } });
  });
});

describe('refusals', () => {
  it.each<[string, SmtpInboxOptions['refuse'], ErrorCode, Phase, boolean]>([
    [
      'a greeting of 554',
      { connect: () => ({ code: 554, text: '5.7.1 blocked' }) },
      'GREETING_REFUSED',
      'greeting',
      false,
    ],
    [
      'a greeting of 421',
      { connect: () => ({ code: 421, text: '4.7.0 busy' }) },
      'GREETING_DEFERRED',
      'greeting',
      true,
    ],
    [
      'MAIL FROM 550',
      { mailFrom: () => ({ code: 550, text: '5.7.60 not you' }) },
      'SENDER_REFUSED',
      'envelope',
      false,
    ],
    [
      'MAIL FROM 451',
      { mailFrom: () => ({ code: 451, text: '4.3.0 later' }) },
      'SENDER_DEFERRED',
      'envelope',
      true,
    ],
    [
      'RCPT TO 550',
      { rcptTo: () => ({ code: 550, text: '5.1.1 who' }) },
      'RECIPIENTS_REFUSED',
      'envelope',
      false,
    ],
    [
      'RCPT TO 450',
      { rcptTo: () => ({ code: 450, text: '4.2.1 later' }) },
      'RECIPIENTS_DEFERRED',
      'envelope',
      true,
    ],
    [
      'the message 554',
      { message: () => ({ code: 554, text: '5.6.0 no' }) },
      'MESSAGE_REFUSED',
      'confirm',
      false,
    ],
    [
      'the message 452',
      { message: () => ({ code: 452, text: '4.3.1 later' }) },
      'MESSAGE_DEFERRED',
      'confirm',
      true,
    ],
  ])('%s', async (_, refuse, code, phase, retryable) => {
    const [error] = await failureAt({ ...(refuse && { refuse }) }, { auth: undefined });
    expect(error).toMatchObject({ code, phase, retryable, inDoubt: false });
    expect(error.details.reply).toMatch(/^\d{3} /);
  });

  it('a message over the announced SIZE is not even begun', async () => {
    await using inbox = await SmtpInbox.start({ size: 1_000 });
    const error = await failureOf({ host: inbox.host, port: inbox.port }, 'x'.repeat(2_000));
    expect(error).toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
      phase: 'envelope',
      details: { limitBytes: 1_000 },
    });
  });
});

describe('a connection that breaks or falls silent', () => {
  const steps = ['greeting', 'EHLO', 'MAIL', 'DATA', 'body', 'dot'] as const;
  type Step = (typeof steps)[number];
  const expected: Record<Step, [ErrorCode, ErrorCode, Phase]> = {
    greeting: ['CONNECTION_LOST', 'CONNECTION_TIMED_OUT', 'greeting'],
    EHLO: ['CONNECTION_LOST', 'CONNECTION_TIMED_OUT', 'greeting'],
    MAIL: ['CONNECTION_LOST', 'CONNECTION_TIMED_OUT', 'envelope'],
    DATA: ['CONNECTION_LOST', 'CONNECTION_TIMED_OUT', 'envelope'],
    body: ['CONNECTION_LOST', 'CONNECTION_TIMED_OUT', 'data'],
    dot: ['DELIVERY_IN_DOUBT', 'DELIVERY_IN_DOUBT', 'confirm'],
  };

  /** Plays an SMTP server up to a step, and there stops reading, closes, resets, or just says nothing. */
  function play(at: Step, how: 'FIN' | 'RST' | 'silence', socket: Socket): void {
    const stop = (): void => {
      if (how === 'FIN') socket.end();
      else if (how === 'RST') socket.resetAndDestroy();
      else socket.pause();
    };
    if (at === 'greeting') {
      stop();
      return;
    }
    let body: string | undefined;
    socket.write('220 test\r\n');
    socket.on('data', (chunk) => {
      if (body !== undefined) {
        body += chunk.toString('latin1').slice(-5);
        if (at === 'body' || body.endsWith('\r\n.\r\n')) stop();
        return;
      }
      for (const line of chunk.toString().split('\r\n').filter(Boolean)) {
        const verb = line.slice(0, 4).toUpperCase();
        if (verb === at) return stop();
        if (verb === 'DATA') body = '';
        socket.write(verb === 'DATA' ? '354 go\r\n' : '250 ok\r\n');
      }
    });
  }

  const cases = steps.flatMap((at) => (['FIN', 'RST', 'silence'] as const).map((how) => ({ at, how })));
  it.each(cases)('$how at $at', async ({ at, how }) => {
    // Larger than any socket buffer, so that cutting in mid-body finds some of it still here.
    const text = at === 'body' ? 'line of text\n'.repeat(2_000_000) : 'Hello';
    const error = await withServer(
      (socket) => play(at, how, socket),
      (port) => failureOf({ host: '127.0.0.1', port, tls: 'none', timeouts: quick }, text),
    );
    const [lost, silent, reached] = expected[at];
    const inDoubt = reached === 'confirm';
    // A reset can overtake the end of the TCP handshake.
    const phase =
      at === 'greeting' && how === 'RST' ? expect.stringMatching(/^(connect|greeting)$/) : reached;
    expect(error).toMatchObject({
      code: how === 'silence' ? silent : lost,
      phase,
      inDoubt,
      retryable: !inDoubt,
    });
  });

  it('something that is not SMTP', async () => {
    const error = await withServer(
      (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'),
      (port) => failureOf({ host: '127.0.0.1', port, tls: 'none', timeouts: quick }),
    );
    expect(error).toMatchObject({ code: 'PROTOCOL_VIOLATED', phase: 'greeting' });
  });

  it('garbage instead of the reply to the message leaves it in doubt', async () => {
    const error = await withServer(
      (socket) => {
        let inBody = false;
        socket.write('220 test\r\n');
        socket.on('data', (chunk) => {
          const isData = chunk.toString().startsWith('DATA');
          socket.write(inBody ? 'what?\r\n' : isData ? '354 go\r\n' : '250 ok\r\n');
          inBody ||= isData;
        });
      },
      (port) => failureOf({ host: '127.0.0.1', port, tls: 'none', timeouts: quick }),
    );
    expect(error).toMatchObject({ code: 'DELIVERY_IN_DOUBT', phase: 'confirm', inDoubt: true });
  });

  it('the time for the whole send', async () => {
    await withServer(
      () => undefined,
      async (port) => {
        await using sender = createSender({ host: '127.0.0.1', port, tls: 'none' });
        await expect(sender.send(message, { timeoutMs: 100 })).rejects.toMatchObject({
          code: 'SEND_TIMED_OUT',
          phase: 'greeting',
          retryable: true,
        });
      },
    );
  });
});

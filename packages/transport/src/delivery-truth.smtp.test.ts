import { once } from 'node:events';
import { inspect } from 'node:util';
import type { ConnectionInput, Logger } from '@flowpost/core';
import { createTestCertificates, HttpServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from './create-sender.ts';

// What a sender says must be true of what the server has, however the server or the caller behaves.

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
const large = { ...message, text: 'a line of text\n'.repeat(1_500_000) };
const password = 'hunter2-S3cret!';
const plainAuth = Buffer.from(`\0me\0${password}`).toString('base64');
const quick = { connectMs: 2_000, greetingMs: 1_000, commandMs: 1_000, dataMs: 1_000, confirmMs: 1_000 };
const at = (port: number, more: object = {}) =>
  ({ host: '127.0.0.1', port, tls: 'none', timeouts: quick, ...more }) as ConnectionInput;
const dot = Buffer.from('\r\n.\r\n');

describe('an answer before the message has left', () => {
  it.each([
    ['a stray 250 before the 354', '250 stray\r\n354 go on', undefined],
    ['a refusal in mid-body', undefined, '552 5.3.4 too big'],
    ['a deferral in mid-body', undefined, '451 4.3.0 later'],
    ['a confirmation in mid-body', undefined, '250 thanks'],
  ])('%s: the end never leaves, and nothing is called sent', async (_, toData, inBody) => {
    let received: Buffer = Buffer.alloc(0);
    let answered = false;
    await using server = await RawServer.start((socket) =>
      speakSmtp(
        socket,
        (command) => (command === 'DATA' ? toData : undefined),
        (soFar) => {
          received = soFar;
          if (inBody && !answered) socket.write(`${inBody}\r\n`);
          answered = true;
        },
      ),
    );
    await using sender = createSender(at(server.port));
    const error = await sender.send(large).then(
      () => undefined,
      (thrown) => thrown,
    );
    await expect.poll(() => server.openConnections).toBe(0);
    expect(received.includes(dot)).toBe(false);
    expect(error).toMatchObject(
      inBody === '250 thanks' ? { inDoubt: true, retryable: false } : { inDoubt: false },
    );
    expect(error.retryable).toBe(inBody === undefined || inBody.startsWith('451'));
  });
});

describe('cancelling', () => {
  it('at any moment around the end says in doubt whenever the server has the message', async () => {
    let doubts = 0;
    for (let turns = 0; turns < 12; turns++) {
      let hasMessage = false;
      await using server = await RawServer.start((socket) =>
        speakSmtp(socket, (command) => {
          hasMessage ||= command === '.';
          return command === '.' ? null : undefined;
        }),
      );
      await using sender = createSender(at(server.port));
      const controller = new AbortController();
      const abortLater = async (): Promise<void> => {
        for (let turn = 0; turn < turns; turn++) await Promise.resolve();
        controller.abort();
      };
      const sending = sender.send(message, {
        signal: controller.signal,
        beforeData: () => void abortLater(),
      });
      const error = await sending.catch((thrown) => thrown);
      await expect.poll(() => server.openConnections).toBe(0);
      expect(error.inDoubt || !hasMessage, `after ${turns} turns`).toBe(true);
      if (error.inDoubt) doubts++;
    }
    expect(doubts).toBeGreaterThan(0);
  });

  it.each([[null], [{ response: '550 forged' }], ['text'], [new Error('mine')]])(
    'with the reason %j changes nothing',
    async (reason) => {
      const controller = new AbortController();
      await using server = await RawServer.start((socket) =>
        speakSmtp(socket, (command) => {
          if (command === '.') controller.abort(reason);
          return command === '.' ? null : undefined;
        }),
      );
      await using sender = createSender(at(server.port));
      await expect(sender.send(message, { signal: controller.signal })).rejects.toMatchObject({
        code: 'DELIVERY_IN_DOUBT',
      });
      await expect(sender.send(message, { signal: controller.signal })).rejects.toMatchObject({
        code: 'SEND_CANCELLED',
      });
    },
  );

  it('ends waiting for the name server, for a greeting and for a free session', async () => {
    await using server = await RawServer.start(() => undefined);
    const hanging = () => new Promise<never>(() => undefined);
    const slow = { ...quick, connectMs: 60_000, greetingMs: 60_000 };
    await using lost = createSender({ host: 'mail.example.test', timeouts: slow }, { lookup: hanging });
    await expect(lost.send(message, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'SEND_TIMED_OUT' });
    await using full = createSender(at(server.port, { timeouts: slow, limits: { connections: 1 } }));
    const first = full.send(message, { timeoutMs: 200 });
    await expect(full.send(message, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'SEND_TIMED_OUT' });
    await expect(full.send(message, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'SEND_CANCELLED',
    });
    await expect(first).rejects.toMatchObject({ code: 'SEND_TIMED_OUT' });
  });
});

describe('a session that cannot go on', () => {
  it.each(['500 what?', '421 4.4.2 goodbye'])('because RSET is answered %s is replaced', async (toReset) => {
    await using server = await RawServer.start((socket, connection) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('MAIL') && connection === 1) return '451 4.3.0 later';
        return command === 'RSET' ? toReset : undefined;
      }),
    );
    await using sender = createSender(at(server.port));
    await expect(sender.send(message)).rejects.toMatchObject({ code: 'SENDER_DEFERRED' });
    expect(await sender.send(message)).toMatchObject({ status: 'sent', attempts: 2 });
  });

  it('because the server says 421 to MAIL is replaced, and on a new one it is an error', async () => {
    for (const pipelining of [true, false]) {
      let messages = 0;
      await using server = await RawServer.start((socket) =>
        speakSmtp(socket, (command) => {
          if (command.startsWith('EHLO') && pipelining) return '250-test\r\n250 PIPELINING';
          if (command.startsWith('MAIL') && messages++ % 2 === 1) return '421 4.4.2 idle for too long';
          return undefined;
        }),
      );
      await using sender = createSender(at(server.port));
      await sender.send(message);
      expect((await sender.send(message)).attempts).toBe(2);
      messages = 1;
      await expect(sender.send(message, { closeSession: true })).resolves.toMatchObject({ attempts: 2 });
      messages = 1;
      await expect(sender.send(message)).rejects.toMatchObject({
        code: 'SENDER_DEFERRED',
        details: { replyCode: 421 },
      });
    }
  });
});

it.each([
  ['550 5.1.1 User unknown', 'RECIPIENTS_REFUSED', 'address.unknown', undefined],
  ['452 4.5.3 Too many recipients', 'RECIPIENTS_DEFERRED', 'protocol.too-many-recipients', undefined],
  [
    '550 5.4.5 Daily user sending limit exceeded. gsmtp',
    'RECIPIENTS_REFUSED',
    'gmail.daily-limit',
    86_400_000,
  ],
])(
  'what is known about a reply is known about one to RCPT: %s',
  async (reply, code, diagnosis, retryAfterMs) => {
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => (command.startsWith('RCPT') ? reply : undefined)),
    );
    await using sender = createSender(at(server.port));
    const error = await sender.send(message).catch((thrown) => thrown);
    expect(error).toMatchObject({ code, details: { diagnosis, enhancedCode: reply.slice(4, 9) } });
    expect(error.details.retryAfterMs).toBe(retryAfterMs);
  },
);

it('a session that a server ends for its age right after a message leaves that in doubt', async () => {
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) =>
      command === '.' ? '421 4.4.1 Connection timed out. Total session duration: 00:10:00.5' : undefined,
    ),
  );
  await using sender = createSender(at(server.port));
  await expect(sender.send(message)).rejects.toMatchObject({ code: 'DELIVERY_IN_DOUBT', inDoubt: true });
});

describe('a server that repeats the password', () => {
  const auth = { kind: 'basic', username: 'me', password } as const;
  const secrets = [password, plainAuth];
  const offering = (command: string): string | undefined =>
    command.startsWith('EHLO') ? '250-test\r\n250 AUTH PLAIN' : undefined;

  function expectClean(value: unknown): void {
    const shown = inspect(value, { depth: 9, showHidden: true }) + JSON.stringify(value);
    for (const secret of secrets) expect(shown).not.toContain(secret);
  }

  it('in a refusal without a line end', async () => {
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (!command.startsWith('AUTH')) return offering(command);
        socket.end(`535 5.7.8 bad: ${command} ${password}`);
        return null;
      }),
    );
    await using sender = createSender(at(server.port, { auth }));
    const error = await sender.send(message).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'AUTH_REFUSED', retryable: false, phase: 'auth' });
    expectClean(error);
  });

  it('about recipients and in the receipt', async () => {
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('RCPT TO:<no')) return `550 5.1.1 ${plainAuth}`;
        return command === '.' ? `250 ${password}` : offering(command);
      }),
    );
    await using sender = createSender(at(server.port, { auth }));
    const receipt = await sender.send({ ...message, to: 'b@x.org, no@x.org' });
    expect(receipt).toMatchObject({
      status: 'partial',
      response: '250 ***',
      rejected: [{ reply: '550 5.1.1 ***' }],
    });
    expectClean(receipt);
    expectClean(
      await sender
        .send({ ...message, to: 'b@x.org, no@x.org' }, { onPartial: 'fail' })
        .catch((thrown) => thrown),
    );
  });
});

it.each(['550\tno', '5.1.1 unknown', '354 x'])(
  "onPartial 'fail' sends to nobody when RCPT is answered %j",
  async (reply) => {
    let ended = false;
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        ended ||= command === '.';
        return command.startsWith('RCPT TO:<no') ? reply : undefined;
      }),
    );
    await using sender = createSender(at(server.port));
    const sending = sender.send({ ...message, to: 'b@x.org, no@x.org' }, { onPartial: 'fail' });
    await expect(sending).rejects.toMatchObject({ phase: 'envelope', inDoubt: false, retryable: false });
    expect(ended).toBe(false);
  },
);

describe('an attachment that fails while the message is being sent', () => {
  it('ends the message before its end: nothing is delivered, and the error names the attachment', async () => {
    await using files = await HttpServer.start({
      '/cut.bin': (_, response) => {
        response.writeHead(200, { 'content-length': '20000000' });
        response.write(Buffer.alloc(5_000_000), () => response.destroy());
      },
      '/whole.bin': (_, response) =>
        response.writeHead(200, { 'content-length': '3000000' }).end(Buffer.alloc(3_000_000)),
    });
    await using inbox = await SmtpInbox.start();
    const urls = { allowedHosts: ['127.0.0.1'], allowedPorts: [files.port] };
    await using sender = createSender(inbox.url, { attachments: { urls } });
    const attachments = ['/whole.bin', '/cut.bin'].map((path) => ({
      kind: 'url' as const,
      url: files.url(path),
    }));
    await expect(sender.send({ ...message, attachments })).rejects.toMatchObject({
      code: 'ATTACHMENT_TRUNCATED',
      phase: 'attachments',
      retryable: true,
      inDoubt: false,
      details: { position: 2, name: files.url('/cut.bin') },
    });
    await expect.poll(() => files.connections()).toBe(0);
    await expect.poll(() => inbox.openConnections).toBe(0);
    expect(inbox.messages).toEqual([]);
    expect((await sender.send(message)).status).toBe('sent');
  });
});

it('a message that a known service does not take is not even begun', async () => {
  await using sender = createSender(
    { service: 'iCloud' },
    { lookup: () => Promise.reject(new Error('not asked')) },
  );
  const text = 'x'.repeat(30_000_000);
  await expect(sender.send({ ...message, text })).rejects.toMatchObject({
    code: 'MESSAGE_TOO_LARGE',
    phase: 'validate',
    details: { limitBytes: 28_311_552 },
  });
});

it('a pinned certificate is demanded even where STARTTLS is only taken if offered', async () => {
  await using inbox = await SmtpInbox.start();
  await using sender = createSender({
    host: inbox.host,
    port: inbox.port,
    tlsOptions: { fingerprints: ['ab'.repeat(32)] },
  });
  await expect(sender.send(message)).rejects.toMatchObject({ code: 'TLS_NOT_OFFERED' });
  expect(inbox.messages).toEqual([]);
});

it('a logger that fails does not make a sent message a failure', async () => {
  await using inbox = await SmtpInbox.start();
  const fail = (): never => {
    throw new Error('disk full');
  };
  const logger: Logger = { debug: fail, info: fail, warn: fail, error: fail };
  await using sender = createSender({ host: inbox.host, port: inbox.port }, { logger });
  expect((await sender.send(message)).status).toBe('sent');
});

it('a large message may take as long as it needs, as long as it moves', async () => {
  await using server = await RawServer.start((socket) => {
    speakSmtp(socket, () => undefined);
    // Takes a little at a time, and for longer than the limit in all.
    const pace = setInterval(() => socket.resume(), 20);
    socket.on('data', () => socket.pause());
    socket.once('close', () => clearInterval(pace));
  });
  await using sender = createSender(
    at(server.port, { timeouts: { ...quick, dataMs: 1_500, confirmMs: 20_000 } }),
  );
  expect((await sender.send({ ...large, text: large.text.slice(0, 12_000_000) })).status).toBe('sent');
});

describe('closing', () => {
  it('twice at once ends twice, after what is in flight and what is being closed', async () => {
    await using inbox = await SmtpInbox.start();
    const sender = createSender({ host: inbox.host, port: inbox.port });
    const sending = sender.send(message, { closeSession: true });
    await Promise.all([sender[Symbol.asyncDispose](), sender[Symbol.asyncDispose]()]);
    expect((await sending).status).toBe('sent');
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('counts a session against the limit until it is closed', async () => {
    let open = 0;
    let most = 0;
    await using server = await RawServer.start((socket) => {
      most = Math.max(most, ++open);
      speakSmtp(socket, (command) => {
        if (command !== 'QUIT') return undefined;
        setTimeout(() => {
          open--;
          socket.end('221 bye\r\n');
        }, 50);
        return null;
      });
    });
    await using sender = createSender(at(server.port, { limits: { connections: 1 } }));
    await Promise.all([1, 2, 3].map(() => sender.send(message, { closeSession: true })));
    expect([server.connections, most]).toEqual([3, 1]);
  });
});

it('cutting an inbox in the middle of TLS handshakes is survived by both sides', async () => {
  const { authority, valid } = await createTestCertificates();
  for (let round = 0; round < 10; round++) {
    await using inbox = await SmtpInbox.start({ tls: 'implicit', certificate: valid });
    const connection = {
      host: inbox.host,
      port: inbox.port,
      tls: 'implicit',
      tlsOptions: { ca: authority.cert },
    } as const;
    await using sender = createSender(connection);
    const sending = sender.send(message).catch((error) => error);
    while (inbox.connections === 0)
      await once(process, 'tick', { signal: AbortSignal.timeout(1) }).catch(() => undefined);
    inbox.dropConnections();
    await sending;
  }
});

it.each([
  ['its own', { timeouts: { ...quick, confirmMs: 300 } }, {}],
  ['that of the caller', {}, { timeoutMs: 300 }],
])(
  'an answer that came while the process stood still counts, though a time is over: %s',
  async (_, more, options) => {
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        const until = performance.now() + 600;
        // The answer leaves before that.
        if (command === '.') process.nextTick(standStill, until);
        return undefined;
      }),
    );
    await using sender = createSender(at(server.port, more));
    expect((await sender.send(message, options)).status).toBe('sent');
  },
);

function standStill(until: number): void {
  while (performance.now() < until);
}

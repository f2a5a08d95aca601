// Sends the same message many times over one kind of sender, and prints how many a second.
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { type MailSender, MemoryDuplicateStore } from '@flowpost/core';
import { composeMessage } from '@flowpost/mime-attachments';
import { createFlowScope, parseFlowData, runNode, sendEmailNode } from '@flowpost/node-adapter';
import { createSender, withDuplicateGuard, withLoopGuard, withRetry } from '@flowpost/transport';
import { createMessage } from '@upyo/core';
import { SmtpTransport } from '@upyo/smtp';
import { createTransport } from 'nodemailer';
import SMTPConnection from 'nodemailer/lib/smtp-connection';

const { values } = parseArgs({
  options: {
    subject: { type: 'string', default: '' },
    port: { type: 'string', default: '' },
    connections: { type: 'string', default: '1' },
    messages: { type: 'string', default: '1000' },
    recipients: { type: 'string', default: '1' },
    /** In milliseconds; without it, twice as many messages as are measured. */
    'warm-up': { type: 'string', default: '0' },
  },
});
const port = Number(values.port);
const connections = Number(values.connections);
const host = '127.0.0.1';
const paragraph = 'Thank you for your order. It leaves our house tomorrow and should be with you soon. ';
const to = Array.from({ length: Number(values.recipients) }, (_, index) => `person${index}@example.com`);
const message = {
  from: 'Ann Example <ann@example.com>',
  to,
  subject: 'Your order',
  text: paragraph.repeat(6),
  html: `<p>${paragraph.repeat(8)}</p>`,
};

interface Subject {
  send(number: number): Promise<unknown>;
  /** How many sends are under way at once. */
  readonly width: number;
  close(): Promise<unknown> | unknown;
}

function flowpost(wrap: (sender: MailSender) => MailSender): Subject {
  const sender = wrap(createSender({ host, port, tls: 'none', limits: { connections } }));
  return {
    width: connections * 4,
    send: (number) => sender.send({ ...message, subject: `Your order ${number}` }),
    close: () => sender[Symbol.asyncDispose](),
  };
}

/** The same message as settings of a node, over a scope of its own. */
function node(subject: (number: number) => Record<string, unknown>): Subject {
  const scope = createFlowScope();
  const connection = { host, port, tls: 'none', limits: { connections } };
  return {
    width: connections * 4,
    send: async (number) => {
      const flow = parseFlowData({ input: { number } });
      const settings = { connection, ...message, ...subject(number) };
      const outcome = await runNode(sendEmailNode, settings, { flow, scope });
      if ('error' in outcome) throw new Error(outcome.error.message);
    },
    close: () => scope[Symbol.asyncDispose](),
  };
}

const subjects: Readonly<Record<string, () => Subject | Promise<Subject>>> = {
  flowpost: () => flowpost((sender) => sender),
  'flowpost with guards': () =>
    flowpost((sender) =>
      withLoopGuard(withDuplicateGuard(withRetry(sender), { store: new MemoryDuplicateStore() }), {
        from: 'eve@x.org',
      }),
    ),
  node: () => node((number) => ({ subject: `Your order ${number}` })),
  'node with dynamic fields': () => node(() => ({ subject: 'Your order {{ input.number }}' })),
  'nodemailer pool': () => {
    const options = {
      pool: true as const,
      maxConnections: connections,
      maxMessages: Number.POSITIVE_INFINITY,
    };
    const transport = createTransport({ ...options, host, port, secure: false, ignoreTLS: true });
    return {
      width: connections * 4,
      send: () => transport.sendMail(message),
      close: () => transport.close(),
    };
  },
  'nodemailer, a connection each': () => {
    const transport = createTransport({ host, port, secure: false, ignoreTLS: true });
    return { width: connections, send: () => transport.sendMail(message), close: () => transport.close() };
  },
  upyo: () => {
    const transport = new SmtpTransport({ host, port, secure: false, pool: true, poolSize: connections });
    const upyoMessage = createMessage({
      from: 'Ann Example <ann@example.com>',
      to: to as `${string}@${string}`[],
      subject: message.subject,
      content: { text: message.text, html: message.html },
    });
    return {
      width: connections,
      send: async () => {
        const receipt = await transport.send(upyoMessage);
        if (!receipt.successful) throw new Error('upyo failed');
      },
      close: () => transport.closeAllConnections(),
    };
  },
  'nodemailer connection, ready-made bytes': async () => {
    const { body, envelope } = await composeMessage(message);
    const open = await Promise.all(
      Array.from({ length: connections }, async () => {
        const connection = new SMTPConnection({ host, port, secure: false, ignoreTLS: true });
        connection.connect();
        await once(connection, 'connect');
        return connection;
      }),
    );
    return {
      width: connections,
      send: (number) =>
        new Promise((resolve, reject) => {
          const connection = open[number % connections] as SMTPConnection;
          connection.send({ from: envelope.from, to: [...envelope.to] }, body as Buffer, (error, info) =>
            error ? reject(error) : resolve(info),
          );
        }),
      close: () => {
        for (const connection of open) connection.quit();
      },
    };
  },
};

/** Each message has a number of its own, so that no guard takes it for another. */
let sent = 0;

async function run(subject: Subject, count: number): Promise<number> {
  const start = performance.now();
  const width = Math.min(subject.width, count);
  const first = sent;
  sent += count;
  await Promise.all(
    Array.from({ length: width }, async (_, lane) => {
      for (let number = lane; number < count; number += width) await subject.send(first + number);
    }),
  );
  return (count / (performance.now() - start)) * 1_000;
}

const create = subjects[values.subject];
if (!create) throw new Error(`there is no subject ${values.subject}`);
const subject = await create();
const count = Number(values.messages);
// What counts is how a sender runs, not how it starts.
const warmUpMs = Number(values['warm-up']);
if (warmUpMs === 0) await run(subject, count * 2);
for (const end = performance.now() + warmUpMs; performance.now() < end; ) await run(subject, 1_000);
const perSecond = await run(subject, count);
await subject.close();
process.stdout.write(JSON.stringify({ perSecond }));
process.exit(0);

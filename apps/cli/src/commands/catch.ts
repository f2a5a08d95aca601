import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '@flowpost/core';
import type {
  FaultEnvelope,
  FaultServerOptions,
  KeyPair,
  ParsedAddress,
  ReceivedMail,
  Refusal,
} from '@flowpost/testing';
import { type Command, readChoice, readNumber, UsageError, type Values } from '../command-line.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson, say } from '../output.ts';
import { catchSpec } from '../specs.ts';

/** Imported, because as a package of its own it is an ES module, and what is bundled here is not. */
const loadServers = () => import('@flowpost/testing');

const format = ({ name, address }: ParsedAddress): string => (name ? `${name} <${address}>` : address);

/** What a person or a script wants to know of a message, without its attachments' bytes. */
function summarize(mail: ReceivedMail, file: string | undefined) {
  const { from, to, cc, subject, text, html, attachments, envelope, raw, messageId } = mail;
  return {
    from: from.map(format).join(', '),
    to: to.map(format),
    cc: cc.map(format),
    subject,
    messageId,
    text,
    html,
    attachments: attachments.map(({ filename, contentType, size }) => ({ filename, contentType, size })),
    envelope,
    sizeBytes: raw.length,
    ...(file !== undefined && { file }),
  };
}

/** One line of people's output: what stands in a message makes no other, and does not turn it round. */
const oneLine = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');

function saySummary({
  from,
  to,
  cc,
  subject,
  text,
  html,
  attachments,
  file,
}: ReturnType<typeof summarize>): void {
  say('');
  say(oneLine(`From:    ${from}`));
  say(oneLine(`To:      ${to.join(', ')}`));
  if (cc.length > 0) say(oneLine(`Cc:      ${cc.join(', ')}`));
  say(oneLine(`Subject: ${subject}`));
  const parts = [text === undefined ? [] : 'text', html === undefined ? [] : 'html'].flat();
  say(`Parts:   ${parts.join(', ') || 'none'}`);
  for (const { filename, contentType, size } of attachments)
    say(oneLine(`File:    ${filename ?? 'without a name'} (${contentType}, ${size} bytes)`));
  if (file !== undefined) say(`Saved:   ${file}`);
}

/**
 * Where messages are kept: in the folder, each under the next free number; never over another one.
 *
 * @throws UsageError
 */
async function openFolder(folder: string): Promise<(raw: Buffer) => Promise<string>> {
  let last = 0;
  try {
    await makeFolder(folder);
    for (const name of await readdir(folder))
      last = Math.max(last, Number(/^(\d{1,15})\.eml$/.exec(name)?.[1] ?? 0));
  } catch (error) {
    throw new UsageError(`--dir ${folder} cannot be a folder (${(error as NodeJS.ErrnoException).code}).`);
  }
  return async (raw) => {
    for (;;) {
      const path = join(folder, `${String(++last).padStart(4, '0')}.eml`);
      try {
        await writeFile(path, raw, { flag: 'wx' });
        return path;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
  };
}

const stages = ['connect', 'auth', 'mail', 'rcpt', 'message'] as const;

/** `rcpt:452:4.2.2 Mailbox full` */
function readRefusals(given: readonly string[]): Map<string, Refusal> {
  const refusals = new Map<string, Refusal>();
  for (const one of given) {
    const [, stage = '', code = '', text] = /^(\w+):([45]\d\d)(?::([ -~]+))?$/.exec(one) ?? [];
    if (!stages.some((known) => known === stage))
      throw new UsageError(`--refuse takes ${stages.join('|')}:CODE[:TEXT], not ${JSON.stringify(one)}.`);
    refusals.set(stage, { code: Number(code), text: text ?? `${code[0]}.0.0 Refused, as you wanted` });
  }
  return refusals;
}

const mostTimes = 1_000_000;

/** `dot:fin:1` */
async function readFault(given: string): Promise<Pick<FaultServerOptions, 'stage' | 'fault' | 'times'>> {
  const { faultStages, faults } = await loadServers();
  const [stage, fault, times, ...rest] = given.split(':');
  const knownStage = faultStages.find((one) => one === stage);
  const knownFault = faults.find((one) => one === fault);
  if (!knownStage || !knownFault || rest.length > 0) {
    throw new UsageError(
      `--fault takes STAGE:FAULT[:TIMES] with a stage of ${faultStages.join(', ')} and a fault of ${faults.join(', ')}.`,
    );
  }
  const count = times === undefined ? {} : { times: readNumber('fault', times, [1, mostTimes]) };
  return { stage: knownStage, fault: knownFault, ...count };
}

function readUsers(given: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    given.map((one) => {
      const colon = one.indexOf(':');
      if (colon < 1) throw new UsageError('--user takes NAME:PASSWORD.');
      return [one.slice(0, colon), one.slice(colon + 1)];
    }),
  );
}

/** A certificate for this machine by an authority of this run. */
async function makeCertificate(file: string | undefined): Promise<KeyPair> {
  const { CertificateAuthority } = await loadServers();
  const authority = await CertificateAuthority.create();
  if (file !== undefined) await writeFile(file, authority.cert);
  return authority.issue();
}

type CatchValues = Values<typeof catchSpec>;

/** The server that goes wrong; how to stop it, and where it is. */
async function startFaulty(
  values: CatchValues,
  port: number,
  show: (raw: Buffer, envelope: FaultEnvelope) => Promise<void>,
) {
  if (values.refuse || values.user || values.tls === 'implicit')
    throw new UsageError('--fault goes with --port, --dir and --tls starttls, and with nothing else.');
  const { FaultServer } = await loadServers();
  const fault = await readFault(values.fault ?? '');
  if ((fault.stage === 'starttls' || fault.stage === 'handshake') && values.tls === undefined)
    throw new UsageError(`--fault ${fault.stage} goes with --tls starttls: without it nobody gets as far.`);
  const server = await FaultServer.start({
    ...fault,
    port,
    // Nobody logs in where it is not offered, and then there is nothing to go wrong.
    auth: fault.stage === 'auth',
    onMessage: (message, envelope) =>
      void show(Buffer.from(message), envelope).catch((error) =>
        say(`A message cannot be kept: ${(error as Error).message}`, 'error'),
      ),
    ...(values.tls && { certificate: await makeCertificate(values['ca-out']) }),
  });
  const url = `smtp://127.0.0.1:${server.port}`;
  return { host: '127.0.0.1', port: server.port, url, close: () => server[Symbol.asyncDispose]() };
}

/** `flowpost catch`: a mail server on loopback that shows what it gets, until it is interrupted. */
export const catchMail: Command<typeof catchSpec> = async (values) => {
  const { dir, json } = values;
  if (values['ca-out'] !== undefined && values.tls === undefined)
    throw new UsageError('--ca-out writes the authority of a certificate, so it goes with --tls.');
  const tls = readChoice('tls', values.tls, catchSpec.options.tls.choices);
  const files = new WeakMap<Buffer, string>();
  const requestedPort = readNumber('port', values.port, [0, 65_535]);
  const refusals = readRefusals(values.refuse ?? []);
  const save = dir === undefined ? undefined : await openFolder(dir);
  const refuseAt = (stage: (typeof stages)[number]) => () => refusals.get(stage);
  const show = (mail: ReceivedMail, file = files.get(mail.raw)): void => {
    const summary = summarize(mail, file);
    if (json) printJson(summary, 0);
    else saySummary(summary);
  };
  const startInbox = async (port: number) => {
    const { SmtpInbox } = await loadServers();
    const inbox = await SmtpInbox.start({
      port,
      ...(tls && { tls, certificate: await makeCertificate(values['ca-out']) }),
      // Nobody logs in where it is not offered, and then there is nothing to refuse.
      ...((values.user || refusals.has('auth')) && { users: readUsers(values.user ?? []) }),
      refuse: {
        connect: refuseAt('connect'),
        auth: refuseAt('auth'),
        mailFrom: refuseAt('mail'),
        rcptTo: refuseAt('rcpt'),
        // Kept before the sender is told that it was taken.
        message: async (raw) => {
          const refusal = refusals.get('message');
          if (refusal || !save) return refusal;
          try {
            files.set(raw, await save(raw));
            return undefined;
          } catch (error) {
            say(
              `A message was refused, because it cannot be written to ${dir}: ${(error as Error).message}`,
              'error',
            );
            return { code: 451, text: '4.3.0 The message cannot be stored' };
          }
        },
      },
    });
    inbox.onMessage((mail) => show(mail));
    return { host: inbox.host, port: inbox.port, url: inbox.url, close: () => inbox.close() };
  };
  const showFaulty = async (raw: Buffer, envelope: FaultEnvelope): Promise<void> => {
    const { parseMail } = await loadServers();
    const file = await save?.(raw);
    show({ ...(await parseMail(raw)), raw, envelope, secure: false, user: undefined, sessionId: '' }, file);
  };
  const start =
    values.fault === undefined ? startInbox : (port: number) => startFaulty(values, port, showFaulty);
  const server = await start(requestedPort).catch((error) => {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES')
      throw new UsageError(`Port ${requestedPort} may not be used by this account. Choose one from 1024 on.`);
    if (code !== 'EADDRINUSE') throw error;
    throw new UsageError(
      `Port ${requestedPort} is taken. Choose another with --port, or any free one with --port 0.`,
    );
  });
  const { host, port, url } = server;
  if (json) printJson({ listening: { host, port, url } }, 0);
  else say(`Catching mail at ${url}. Stop with Ctrl+C.`);
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  await server.close();
  return exitCodes.sent;
};

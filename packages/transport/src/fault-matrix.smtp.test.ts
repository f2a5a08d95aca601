import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type ConnectionInput,
  isMailError,
  type MailError,
  type Phase,
  type SendReceipt,
} from '@flowpost/core';
import {
  CuttingProxy,
  createTestCertificates,
  type Fault,
  FaultServer,
  type FaultServerOptions,
  type FaultStage,
  faultStages,
  faults,
  SmtpInbox,
  type TestCertificates,
} from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSender } from './create-sender.ts';
import { withRetry } from './guards/retry.ts';

// Everything that can go wrong, at every stage of a delivery: what the sender says of it must be true of what the
// server has, and trying again must never deliver twice. Writes docs/fault-matrix.md.

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
/**
 * Larger than the buffers of sockets can become (4 MB and 32 MB on Linux), so that something is still here when it breaks in mid-body:
 * what a kernel has taken in whole is in doubt, and rightly so.
 */
const large = { ...message, text: 'a line of text\n'.repeat(2_700_000) };
/** As large as can be taken again in no time. */
const lesser = { ...message, text: 'a line of text\n'.repeat(500_000) };
const quick = { connectMs: 3_000, greetingMs: 500, commandMs: 500, dataMs: 500, confirmMs: 500 };
const document = fileURLToPath(new URL('../../../docs/fault-matrix.md', import.meta.url));

let certificates: TestCertificates;
beforeAll(async () => {
  certificates = await createTestCertificates();
});

interface Expected {
  readonly phase: Phase;
  readonly outcome: 'sent' | 'retry' | 'final' | 'in doubt';
}

const phases: Record<FaultStage, Phase> = {
  greeting: 'greeting',
  ehlo: 'greeting',
  starttls: 'tls',
  handshake: 'tls',
  auth: 'auth',
  mail: 'envelope',
  rcpt: 'envelope',
  data: 'envelope',
  body: 'data',
  dot: 'confirm',
};

/** What must come of a fault, by the rules of RFC 5321 alone; undefined where it makes no sense. */
function expectedOf(stage: FaultStage, fault: Fault): Expected | undefined {
  const phase = phases[stage];
  const lost = stage === 'dot' ? 'in doubt' : 'retry';
  const isReply = !['fin', 'rst', 'silence'].includes(fault);
  // No replies are spoken in a handshake; what is said there is not TLS.
  if (stage === 'handshake' && isReply) return fault === 'garbage' ? { phase, outcome: 'final' } : undefined;
  if (stage === 'body' && fault === 'multiline') return undefined;
  switch (fault) {
    case 'fin':
    case 'rst':
    case 'silence':
      return { phase, outcome: lost };
    case '4yz':
    case '421':
      return { phase, outcome: 'retry' };
    case '5yz':
      // A server that knows no EHLO is asked with HELO.
      return stage === 'ehlo' ? { phase, outcome: 'sent' } : { phase, outcome: 'final' };
    case 'multiline':
      return { phase, outcome: 'sent' };
    case 'garbage':
      // For one recipient or a login it is a refusal of these; after the dot nobody knows.
      if (stage === 'rcpt' || stage === 'auth' || stage === 'starttls') return { phase, outcome: 'final' };
      return { phase, outcome: lost };
    case 'endless':
      return { phase, outcome: lost };
    case 'early':
      if (stage === 'dot') return { phase, outcome: 'sent' };
      if (stage === 'starttls' || stage === 'auth') return { phase, outcome: 'final' };
      // A yes to a message that is not complete: the server may have something.
      if (stage === 'body') return { phase: 'confirm', outcome: 'in doubt' };
      if (stage === 'greeting') return { phase: 'greeting', outcome: 'final' };
      // It is found out as soon as an answer does not fit.
      return { phase: stage === 'ehlo' ? 'envelope' : phase, outcome: 'retry' };
  }
}

async function send(
  options: Omit<FaultServerOptions, 'certificate'>,
  attempts: number,
  { encrypted = false } = {},
) {
  const { stage, fault } = options;
  const tls = encrypted || stage === 'starttls' || stage === 'handshake';
  await using server = await FaultServer.start({
    ...options,
    auth: stage === 'auth',
    ...(tls && { certificate: certificates.valid }),
  });
  const connection: ConnectionInput = {
    host: '127.0.0.1',
    port: server.port,
    tls: tls ? 'starttls' : 'none',
    timeouts: quick,
    tlsOptions: { ca: certificates.authority.cert },
    ...(stage === 'auth' && { auth: { kind: 'basic', username: 'me', password: 'secret' } }),
  };
  const sender = createSender(connection, { closeDeadlineMs: 1_000 });
  await using retrying = withRetry(sender, { attempts, firstDelayMs: 1 });
  const outcome: SendReceipt | MailError = await retrying
    .send(stage !== 'body' ? message : attempts > 1 ? lesser : large)
    .catch((error: unknown) => {
      if (isMailError(error)) return error;
      throw new Error(`${stage} ${fault}: not a MailError`, { cause: error });
    });
  return { outcome, delivered: server.messages };
}

const nameOf = (outcome: SendReceipt | MailError): Expected['outcome'] => {
  if (!isMailError(outcome)) return 'sent';
  return outcome.inDoubt ? 'in doubt' : outcome.retryable ? 'retry' : 'final';
};

const cells = faultStages.flatMap((stage) =>
  faults.flatMap((fault) => {
    const expected = expectedOf(stage, fault);
    return expected ? [{ stage, fault, expected }] : [];
  }),
);
const found = new Map<string, string>();

it('there are at least 80 cells', () => {
  expect(cells.length).toBeGreaterThanOrEqual(80);
});

it.each(['mail', 'rcpt', 'data', 'body', 'dot'] as const)('rst at %s, over TLS', async (stage) => {
  const { outcome } = await send({ stage, fault: 'rst' }, 1, { encrypted: true });
  expect(nameOf(outcome)).toBe(expectedOf(stage, 'rst')?.outcome);
});

describe.each([
  ['replies whole, PIPELINING', { delivery: 'whole', pipelining: true }],
  ['replies byte by byte, one command at a time', { delivery: 'bytes', pipelining: false }],
] as const)('%s', (_, way) => {
  it.each(cells)('$fault at $stage', async ({ stage, fault, expected }) => {
    const { outcome, delivered } = await send({ stage, fault, ...way }, 1);
    expect(nameOf(outcome)).toBe(expected.outcome);
    if (isMailError(outcome)) {
      // A reset can overtake the end of the TCP handshake.
      const early = stage === 'greeting' && fault === 'rst' && outcome.phase === 'connect';
      if (!early) expect(outcome.phase).toBe(expected.phase);
      expect(outcome.hint).not.toBe('');
      // What is not in doubt is certain.
      if (!outcome.inDoubt) expect(delivered).toEqual([]);
      found.set(`${stage} ${fault}`, `${expected.phase}: ${expected.outcome} (${outcome.code})`);
    } else {
      expect(delivered).toHaveLength(1);
      found.set(`${stage} ${fault}`, 'sent');
    }
  });
});

describe('with a second attempt, on a server that goes wrong once', () => {
  it.each(cells)('$fault at $stage', { retry: 3 }, async ({ stage, fault, expected }) => {
    const { outcome, delivered } = await send({ stage, fault, times: 1 }, 2);
    const isTaken = stage === 'body' && nameOf(outcome) === 'in doubt';
    const wanted = isTaken ? 'in doubt' : expected.outcome === 'retry' ? 'sent' : expected.outcome;
    expect(nameOf(outcome)).toBe(wanted);
    // A message in doubt that the server has is there once, and stays in doubt.
    if (wanted === 'sent') expect(delivered).toHaveLength(1);
    else expect(delivered.length).toBeLessThanOrEqual(wanted === 'in doubt' ? 1 : 0);
  });
});

describe('a real server behind a line that is cut', () => {
  it('anywhere: what is not in doubt is certain, and nothing arrives twice', async () => {
    await using inbox = await SmtpInbox.start();
    const text = { ...message, to: 'b@x.org, c@x.org' };
    const sendOver = async (port: number) => {
      await using sender = createSender({
        host: '127.0.0.1',
        port,
        tls: 'none',
        timeouts: { ...quick, confirmMs: 2_000 },
      });
      return sender.send(text).catch((error: unknown) => error as MailError);
    };
    const whole = await CuttingProxy.start({ port: inbox.port });
    await sendOver(whole.port);
    const totals = { clientBytes: whole.clientBytes, serverBytes: whole.serverBytes };
    await whole[Symbol.asyncDispose]();
    const outcomes = new Set<string>();
    for (const side of ['clientBytes', 'serverBytes'] as const) {
      for (let step = 0; step < 40; step++) {
        const before = inbox.messages.length;
        await using proxy = await CuttingProxy.start({
          port: inbox.port,
          [side]: Math.round((totals[side] * step) / 39) || 1,
        });
        const outcome = await sendOver(proxy.port);
        outcomes.add(nameOf(outcome));
        await expect.poll(() => inbox.openConnections).toBe(0);
        const arrived = inbox.messages.length - before;
        if (!isMailError(outcome)) expect(arrived).toBe(1);
        else expect(arrived, `${side} ${step}: ${outcome.code}`).toBeLessThanOrEqual(outcome.inDoubt ? 1 : 0);
      }
    }
    expect([...outcomes].toSorted()).toEqual(['in doubt', 'retry', 'sent']);
  });
});

afterAll(() => {
  if (found.size !== cells.length) return;
  const rows = faultStages.map((stage) => {
    const row = faults.map((fault) => found.get(`${stage} ${fault}`) ?? '');
    return `| ${stage} | ${row.join(' | ')} |`;
  });
  const text = `# What a sender says when something goes wrong

Written by \`packages/transport/src/fault-matrix.smtp.test.ts\`; ${cells.length} cells, each tried with PIPELINING and
without, with replies in one piece and byte by byte, and once more with a second attempt. In each cell: the phase the
error names, whether sending again is safe (\`retry\`), useless (\`final\`) or a risk (\`in doubt\`), and the code.

| stage | ${faults.join(' | ')} |
| ${['stage', ...faults].map(() => '---').join(' | ')} |
${rows.join('\n')}

\`fin\`, \`rst\`, \`silence\`: the connection ends, is reset, says nothing more. \`4yz\`, \`5yz\`, \`421\`: refusals.
\`garbage\`: a line that is no reply. \`endless\`: a reply without end. \`multiline\`: the right reply in several lines.
\`early\`: an answer nobody asked for stands before the right one.
`;
  const current = (() => {
    try {
      return readFileSync(document, 'utf8');
    } catch {
      return '';
    }
  })();
  if (current !== text) writeFileSync(document, text);
});

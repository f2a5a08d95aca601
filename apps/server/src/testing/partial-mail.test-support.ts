import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { afterAll, beforeAll, type ExpectStatic } from 'vitest';
import { type LocalServer, startLocal } from './local-server.test-support.ts';

export type Reply = { readonly code: number; readonly text: string };
export const later: Reply = { code: 451, text: '4.7.1 greylisted' };
export const never: Reply = { code: 550, text: '5.1.1 unknown' };

/** A mail server that refuses by address, with the replies in `refusals` as they are at that moment. */
export async function startRefusing(refusals: Map<string, Reply>) {
  return SmtpInbox.start({ refuse: { rcptTo: (address) => refusals.get(address) } });
}
/** A server that takes one recipient a message, and loses the connection when it has so many messages, where told to. */
export async function startNarrow(lostAt?: number, refusals: ReadonlyMap<string, Reply> = new Map()) {
  const got: string[] = [];
  let to = '';
  const server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      const address = /^RCPT TO:<(.*?)>/.exec(command)?.[1];
      if (command.startsWith('MAIL')) to = '';
      if (command === '.' && got.push(to) === lostAt) {
        socket.destroy();
        return null;
      }
      if (address === undefined) return undefined;
      const refusal = refusals.get(address);
      // Told of the first message that fails, it has taken everybody.
      if (got.length > 0 || lostAt !== 1) {
        if (to !== '') return '452 4.5.3 Too many recipients';
        if (refusal) return `${refusal.code} ${refusal.text}`;
      }
      to += address;
      return '250 ok';
    }),
  );
  return Object.assign(server, { got, url: `smtp://127.0.0.1:${server.port}?tls=none` });
}

/** A server that takes everybody but for whom it has a reply, in turn for each message, and loses the connection after the dot where it is told to. */
export async function startTurns(
  turns: readonly { readonly refusals?: Record<string, string>; readonly lost?: true | string }[],
  protocol = 'smtp',
) {
  const got: string[] = [];
  let turn = -1;
  let to: string[] = [];
  const server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('MAIL')) {
        turn++;
        to = [];
      }
      const { refusals = {}, lost } = turns[turn] ?? {};
      const address = /^RCPT TO:<(.*?)>/.exec(command)?.[1];
      if (address !== undefined && refusals[address] === undefined) to.push(address);
      if (address !== undefined) return refusals[address];
      if (command !== '.') return undefined;
      got.push(to.join());
      if (lost === undefined) return undefined;
      // What it says before.
      if (typeof lost === 'string') socket.write(lost);
      else if (protocol === 'lmtp') socket.write('250 ok\r\n550 5.1.1 no\r\n');
      socket.end();
      return null;
    }),
  );
  return Object.assign(server, { got, url: `${protocol}://127.0.0.1:${server.port}?tls=none` });
}

/** A server of its own for the tests of a file, which sends, and is told what to make of what became of it. */
export function ownServer() {
  let local: LocalServer | undefined;
  beforeAll(async () => {
    local = await startLocal();
  });
  afterAll(() => local?.[Symbol.asyncDispose]());
  const flowpost = (): LocalServer => {
    if (!local) throw new Error('it has not started');
    return local;
  };
  const post = async (path: string, body?: object) => (await flowpost().client.post(path, body)).body;
  const get = async (path: string) => (await flowpost().client.get(path)).body;
  const delivery = (id: string) => get(`/v1/deliveries/${id}`);
  return {
    flowpost,
    async put(connection: string, more: object = {}): Promise<string> {
      const to = ['a@y.org', 'b@y.org', 'c@y.org'];
      const settings = { connection, from: 'a@x.org', to, subject: 'Hi', text: 'x', async: true, ...more };
      return (await post('/v1/nodes/send-email/runs', { settings })).deliveryId;
    },
    /** Waits for the outcome, which is in doubt. */
    async run(connection: string, more: object = {}): Promise<string> {
      await post('/v1/nodes/send-email/runs', {
        settings: { connection, from: 'a@x.org', subject: 'Hi', text: 'x', ...more },
      });
      return (await get('/v1/deliveries?state=in-doubt')).deliveries[0]?.id;
    },
    get: delivery,
    decide: (id: string, what: string, body?: object) => post(`/v1/deliveries/${id}/${what}`, body),
    /** Until some have it and the others wait. */
    waits: (expect: ExpectStatic, id: string) =>
      expect.poll(() => delivery(id)).toMatchObject({ state: 'queued', receipt: { status: 'partial' } }),
  };
}

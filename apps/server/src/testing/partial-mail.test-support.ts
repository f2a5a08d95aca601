import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import type { LocalServer } from './local-server.test-support.ts';

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

/** Sends over a server, and decides about what becomes of it. */
export function deliveriesOf(local: () => LocalServer) {
  return {
    async put(connection: string, more: object = {}): Promise<string> {
      const to = ['a@y.org', 'b@y.org', 'c@y.org'];
      const settings = { connection, from: 'a@x.org', to, subject: 'Hi', text: 'x' };
      const { body } = await local().client.post('/v1/nodes/send-email/runs', {
        settings: { ...settings, async: true, ...more },
      });
      return body.deliveryId;
    },
    /** Waits for the outcome, which is in doubt. */
    async run(connection: string, more: object = {}): Promise<string> {
      const settings = { connection, from: 'a@x.org', subject: 'Hi', text: 'x', ...more };
      await local().client.post('/v1/nodes/send-email/runs', { settings });
      const { body } = await local().client.get('/v1/deliveries?state=in-doubt');
      return body.deliveries[0]?.id;
    },
    get: async (id: string) => (await local().client.get(`/v1/deliveries/${id}`)).body,
    decide: async (id: string, what: string, body?: object) =>
      (await local().client.post(`/v1/deliveries/${id}/${what}`, body)).body,
  };
}

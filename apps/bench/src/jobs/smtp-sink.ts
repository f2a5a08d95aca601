// The least an SMTP server can be: takes everything, keeps nothing, counts messages and round trips. The same for all.
//   --delay N   adds N milliseconds of latency each way

import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { delay: { type: 'string', default: '0' } } });
const delayMs = Number(values.delay);
const end = Buffer.from('\r\n.\r\n');
const counts = { connections: 0, messages: 0, turns: 0 };

const server = createServer((socket) => {
  counts.connections++;
  socket.setNoDelay(true);
  socket.on('error', () => undefined);
  let pending: Buffer = Buffer.alloc(0);
  let inMessage = false;

  /** Takes the commands that are here, and gives the replies to all of them. */
  const answer = (): string => {
    let replies = '';
    for (;;) {
      const at = pending.indexOf(inMessage ? end : '\r\n');
      if (at < 0) return replies;
      const command = inMessage ? '.' : pending.toString('latin1', 0, Math.min(at, 4)).toUpperCase();
      pending = pending.subarray(at + (inMessage ? end.length : 2));
      if (inMessage) {
        counts.messages++;
        inMessage = false;
        replies += '250 2.0.0 taken\r\n';
      } else if (command === 'DATA') {
        inMessage = true;
        replies += '354 go on\r\n';
      } else if (command === 'EHLO')
        replies += '250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n';
      else if (command === 'QUIT') replies += '221 bye\r\n';
      else replies += '250 ok\r\n';
    }
  };
  const reply = (text: string): void => {
    if (text === '') return;
    counts.turns++;
    if (delayMs > 0) setTimeout(() => socket.write(text), delayMs);
    else socket.write(text);
  };
  const take = (chunk: Buffer): void => {
    pending = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
    reply(answer());
  };
  socket.on('data', (chunk: Buffer) => (delayMs > 0 ? setTimeout(() => take(chunk), delayMs) : take(chunk)));
  socket.write('220 sink\r\n');
});
process.on('message', () => process.send?.(counts));
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));

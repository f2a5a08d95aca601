// Puts messages into a server's outbox over HTTP, so many at once, and prints how fast they were accepted.
import { Agent, request } from 'node:http';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    url: { type: 'string', default: '' },
    key: { type: 'string', default: '' },
    clients: { type: 'string', default: '1' },
    messages: { type: 'string', default: '1000' },
  },
});
const clients = Number(values.clients);
const messages = Number(values.messages);
const agent = new Agent({ keepAlive: true, maxSockets: clients });
const target = new URL('/v1/nodes/send-email/runs', values.url);
const paragraph = 'Thank you for your order. It leaves our house tomorrow and should be with you soon. ';

function put(number: number): Promise<void> {
  const body = JSON.stringify({
    settings: {
      connection: '@sink',
      ...{
        from: 'Ann Example <ann@example.com>',
        to: 'person0@example.com',
        subject: `Your order ${number}`,
      },
      ...{ text: paragraph.repeat(6), html: `<p>${paragraph.repeat(8)}</p>`, async: true },
    },
  });
  return new Promise((resolve, reject) => {
    const call = request(
      target,
      {
        agent,
        method: 'POST',
        headers: {
          authorization: `Bearer ${values.key}`,
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        response.resume();
        response.once('end', () =>
          response.statusCode === 202
            ? resolve()
            : reject(new Error(`the server answered ${response.statusCode}`)),
        );
      },
    );
    call.once('error', reject);
    call.end(body);
  });
}

const times: number[] = [];
let next = 0;
const started = performance.now();
await Promise.all(
  Array.from({ length: clients }, async () => {
    while (next < messages) {
      const begun = performance.now();
      await put(next++);
      times.push(performance.now() - begun);
    }
  }),
);
const seconds = (performance.now() - started) / 1_000;
times.sort((a, b) => a - b);
const at = (share: number): number =>
  times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
process.stdout.write(JSON.stringify({ perSecond: messages / seconds, p50: at(0.5), p99: at(0.99) }));
process.exit(0);

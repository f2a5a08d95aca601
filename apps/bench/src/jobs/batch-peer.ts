// The loop one would write instead: rows of a CSV file, text put together by hand, nodemailer's pool, and as many under way as
// keep its sessions busy. It writes down nothing. Prints how many a second got through, and how its memory grew.
import { createReadStream } from 'node:fs';
import { parseArgs } from 'node:util';
import { parse } from 'csv-parse';
import { createTransport } from 'nodemailer';

const { values } = parseArgs({
  options: { port: { type: 'string', default: '' }, rows: { type: 'string', default: '' } },
});
const transport = createTransport({
  ...{ pool: true as const, maxConnections: 5, maxMessages: Number.POSITIVE_INFINITY },
  ...{ host: '127.0.0.1', port: Number(values.port), secure: false, ignoreTLS: true },
});
const paragraph = 'Thank you for your order. It leaves our house tomorrow and should be with you soon. ';
const started = performance.now();
const underWay = new Set<Promise<unknown>>();
let sent = 0;
for await (const { email, name, number } of createReadStream(values.rows).pipe(parse({ columns: true }))) {
  const sending = transport
    .sendMail({
      ...{ from: 'Ann Example <ann@example.com>', to: email, subject: `Your order ${number}` },
      ...{
        text: `Hello ${name}, ${paragraph.repeat(6)}`,
        html: `<p>Hello ${name}, ${paragraph.repeat(8)}</p>`,
      },
    })
    .then(() => {
      sent++;
      underWay.delete(sending);
    });
  underWay.add(sending);
  if (underWay.size >= 20) await Promise.race(underWay);
}
await Promise.all(underWay);
const seconds = (performance.now() - started) / 1_000;
transport.close();
process.stdout.write(JSON.stringify({ perSecond: sent / seconds }));

// The script one would write instead: nodemailer, one message, done.
import { createTransport } from 'nodemailer';

const [port, from, to] = process.argv.slice(2);
const transport = createTransport({ host: '127.0.0.1', port: Number(port), secure: false, ignoreTLS: true });
await transport.sendMail({ from, to, subject: 'Hi', text: 'Hello' });
transport.close();

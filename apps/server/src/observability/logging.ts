import { type LogFields, type Logger, secretFields } from '@flowpost/core';
import { type Logger as Pino, pino } from 'pino';

/** Names under which something secret could slip into a line; its value is replaced. */
const redact = [...secretFields, 'authorization', 'key', 'cookie'].flatMap((name) => [
  name,
  `*.${name}`,
  `*.*.${name}`,
]);

export function createLogger(level: string): Pino {
  const out = pino.destination({
    ...{ fd: 1, sync: true, maxLength: 1_048_576 },
    // Whoever reads a pipe may stand still, and to wait for him would be to stop everything.
    ...{ retryEAGAIN: () => false },
  });
  // What cannot be written is lost, and is no reason to stop sending: a disk that is full has room again.
  out.on('error', () => undefined);
  // What is dropped for want of room is all that happens then; without another try nothing would ever be written again.
  out.on('drop', () => out.write(''));
  return pino({ level, redact: { paths: [...redact, 'req.headers.authorization'], censor: '***' } }, out);
}

/** The log as the packages write to it. */
export function forPackages(log: Pino): Logger {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, fields: LogFields = {}): void =>
      log[level](fields, message);
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { previewNode } from '@flowpost/node-adapter';
import { previewMessage } from '@flowpost/transport';
import { exitCodes } from '../exit-codes.ts';
import { readRun } from './run.ts';
import { readMessage } from './send.ts';

/** A preview needs no server, only what a connection may say about the message. */
const nowhere = 'smtp://localhost';

/** `flowpost preview`: the exact bytes that `send` or `run` would send, on standard output. Nothing is sent. */
export async function preview(argv: readonly string[]): Promise<number> {
  const named = argv[0] !== undefined && !argv[0].startsWith('-');
  const compose = async () => {
    if (named) {
      const { node, settings, flow, sending } = await readRun('preview', argv);
      return previewNode(node, settings, { flow }, sending);
    }
    const { message, connection, sending } = await readMessage(argv, nowhere);
    return previewMessage(message, connection, sending);
  };
  const { body } = await compose();
  await pipeline(Buffer.isBuffer(body) ? Readable.from([body]) : body, process.stdout, { end: false });
  return exitCodes.sent;
}

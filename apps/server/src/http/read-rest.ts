import type { IncomingMessage } from 'node:http';

/** How long what is left of a request is read, and how long nothing may come meanwhile, in milliseconds. */
const longestMs = 2_000;
const silenceMs = 500;

/**
 * Reads what is left of a request that is answered already, so that whoever is still sending hears the answer: a connection that is closed
 * on bytes nobody has read is reset, and a proxy then says that this server is broken (RFC 9112 section 9.6).
 */
export async function readRest(request: IncomingMessage): Promise<void> {
  if (request.complete || request.destroyed) return;
  await new Promise<void>((resolve) => {
    const silence = setTimeout(end, silenceMs);
    const late = setTimeout(end, longestMs);
    const onData = (): void => void silence.refresh();
    function end(): void {
      clearTimeout(silence);
      clearTimeout(late);
      request.off('data', onData).off('close', end).off('end', end);
      resolve();
    }
    request.unpipe();
    request.on('data', onData).once('end', end).once('close', end);
    request.resume();
  });
}

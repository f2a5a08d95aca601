import { parseExactly } from '@flowpost/core';
import type { FastifyInstance } from 'fastify';

const refused = (statusCode: number, why: string): Error => Object.assign(new Error(why), { statusCode });

/** Has bodies read as JSON in UTF-8, with the numbers JavaScript has none for as text: a message says what was written. */
export function takeJson(app: FastifyInstance): void {
  const readJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const [, charset = 'utf-8'] =
      /;\s*charset="?([^\s;"]*)/i.exec(request.headers['content-type'] ?? '') ?? [];
    if (!/^utf-?8$/i.test(charset)) {
      done(refused(415, 'another charset'));
      return;
    }
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(body as Buffer);
    } catch {
      done(refused(400, 'no UTF-8'));
      return;
    }
    // What takes no body may come with the usual header all the same.
    if (text === '') done(null, undefined);
    else
      readJson(request, text, (error, value) =>
        done(error, error ? undefined : parseExactly(text, () => value)),
      );
  });
}

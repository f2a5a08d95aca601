import { isMailError, MailError } from '@flowpost/core';

/** SQLSTATE, and codes of the system, of what has to be corrected: who logs in, what does not exist, what one has no right to. */
const toCorrect = /^(?:28|3D|42501$|25006$|ENOENT$|ENOTDIR$|EEXIST$|EACCES$|EPERM$|EROFS$)/;

/**
 * Does what a start needs of something that a variable names, so that a failure says which one it is about.
 *
 * @throws MailError `STORAGE_UNAVAILABLE` for what may be there in a moment, `CONNECTION_INVALID` and others for what has to be corrected.
 */
export async function about<Value>(variable: string, work: () => Value | Promise<Value>): Promise<Value> {
  try {
    return await work();
  } catch (error) {
    // Who knows better says so; that a database cannot do something is not all there is to say.
    if (isMailError(error) && (error.code !== 'STORAGE_UNAVAILABLE' || error.cause === undefined)) {
      const { code, message, hint, details, cause, retryable } = error;
      throw new MailError(code, `${variable}: ${message}`, { hint, details, cause, retryable });
    }
    // With several addresses Node reports all their failures at once.
    const { errors: [first = error] = [] } = error as { readonly errors?: readonly unknown[] };
    const cause = isMailError(error) ? error.cause : first;
    const { code } = (cause ?? {}) as { readonly code?: unknown };
    const isWrong = typeof code === 'string' && toCorrect.test(code);
    throw new MailError(
      isWrong ? 'CONNECTION_INVALID' : 'STORAGE_UNAVAILABLE',
      `What ${variable} names cannot be used.`,
      {
        retryable: !isWrong,
        hint: isWrong ? `Correct ${variable}, or what it names.` : `Start it, or correct ${variable}.`,
        ...(typeof code === 'string' && { details: { reason: code } }),
        cause,
      },
    );
  }
}

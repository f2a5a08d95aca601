import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { EncryptedText, formatSecretKey, generateSecretKey, MailError } from '@flowpost/core';
import { exitCodes } from '../exit-codes.ts';
import { secretBox } from '../read-input.ts';
import { UsageError } from '../usage.ts';

function box() {
  const found = secretBox();
  if (found) return found;
  throw new MailError('SECRET_KEY_MISSING', 'FLOWPOST_KEYS is not set.', {
    hint: 'Make a key with flowpost secret keygen and put it into FLOWPOST_KEYS.',
  });
}

/** Standard input without the line end that a terminal or echo puts there. */
const readInput = async (): Promise<string> => (await text(process.stdin)).replace(/\r?\n$/, '');

/** `flowpost secret`: keys, and text encrypted with them. Secrets come by standard input, never as arguments. */
export async function secret(argv: readonly string[]): Promise<number> {
  const { positionals } = parseArgs({ args: [...argv], options: {}, allowPositionals: true });
  const [action, id, ...rest] = positionals;
  if (rest.length > 0 || (id !== undefined && action !== 'keygen')) {
    throw new UsageError('Secrets are read from standard input, so that they stand in no list of processes.');
  }
  const print = (line: string): boolean => process.stdout.write(`${line}\n`);
  if (action === 'keygen') print(formatSecretKey(generateSecretKey(id)));
  else if (action === 'encrypt') print((await box().encrypt(await readInput())).compact);
  else if (action === 'rotate') print((await box().rotate(new EncryptedText(await readInput()))).compact);
  else throw new UsageError('flowpost secret takes keygen, encrypt or rotate.');
  return exitCodes.sent;
}

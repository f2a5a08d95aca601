import { realpath, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { EncryptedText, formatSecretKey, generateSecretKey, MailError, replaceFile } from '@flowpost/core';
import { type Command, UsageError } from '../command-line.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson, say } from '../output.ts';
import { decodeText, readBytes, secretBox } from '../read-input.ts';
import type { secretSpec } from '../specs.ts';

function box() {
  const found = secretBox();
  if (found) return found;
  throw new MailError('SECRET_KEY_MISSING', 'FLOWPOST_KEYS is not set.', {
    hint: 'Make a key with flowpost secret keygen and put it into FLOWPOST_KEYS.',
  });
}

/** Asks at a terminal, and shows nothing of the answer. */
async function askUnseen(question: string): Promise<string> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  // From here on the terminal echoes nothing by itself. Asked before, whoever is quick would see what he types.
  const prompt = createInterface({ input: process.stdin, output: nowhere, terminal: true });
  process.stderr.write(question);
  try {
    return await new Promise((resolve, reject) => {
      prompt.question('').then(resolve, reject);
      prompt.once('SIGINT', () => reject(new UsageError('Nothing was entered.')));
      prompt.once('close', () => reject(new UsageError('Nothing was entered.')));
    });
  } finally {
    prompt.close();
    process.stderr.write('\n');
  }
}

/** Standard input without the line end that a terminal or echo puts there. */
const readInput = async (): Promise<string> =>
  process.stdin.isTTY
    ? askUnseen('Secret: ')
    : decodeText(await buffer(process.stdin), 'Standard input').replace(/\r?\n$/, '');

/** Compact JWE (RFC 7516 section 7.1) without an encrypted key, wherever it stands. */
const encryptedText = /\beyJ[\w-]+\.\.[\w-]+\.[\w-]*\.[\w-]+/g;

/** Encrypts every encrypted text in a file anew, and leaves everything else as it is. */
async function rotateFile(named: string): Promise<number> {
  // The file itself, and not a link to it.
  const path = await realpath(named).catch(() => named);
  // One character a byte: what is not ours stays as it is, whatever its encoding.
  const content = (await readBytes(path)).toString('latin1');
  const found = [...new Set(content.match(encryptedText))];
  const keys = box();
  const renewed = new Map<string, string>();
  // All of them before the first is written, so that a missing key changes nothing.
  for (const one of found) renewed.set(one, (await keys.rotate(new EncryptedText(one))).compact);
  if (renewed.size === 0) return 0;
  const text = content.replace(encryptedText, (one) => renewed.get(one) ?? one);
  // Whoever does this: who could read the file still can.
  const owner = await stat(path);
  await replaceFile(path, Buffer.from(text, 'latin1'), { mode: owner.mode, owner });
  return renewed.size;
}

/** `flowpost secret`: keys, and text encrypted with them. Secrets come by standard input, never as arguments. */
export const secret: Command<typeof secretSpec> = async (values, [action, operand, ...rest]) => {
  if (rest.length > 0 || (operand !== undefined && action === 'encrypt')) {
    throw new UsageError('Secrets are read from standard input, so that they stand in no list of processes.');
  }
  const print = (name: string, line: string): void => {
    if (values.json) printJson({ [name]: line });
    else process.stdout.write(`${line}\n`);
  };
  if (operand !== undefined && action === 'keygen' && !/^[\w.-]{1,64}$/.test(operand))
    throw new UsageError('A key is called by letters, digits, dots, hyphens and underscores.');
  if (action === 'keygen') print('key', formatSecretKey(generateSecretKey(operand)));
  else if (action === 'encrypt') print('encrypted', (await box().encrypt(await readInput())).compact);
  else if (action === 'rotate' && operand !== undefined) {
    const count = await rotateFile(operand);
    if (values.json) printJson({ rotated: count });
    else say(`${count} encrypted ${count === 1 ? 'text' : 'texts'} in ${operand} encrypted anew.`);
  } else if (action === 'rotate')
    print('encrypted', (await box().rotate(new EncryptedText(await readInput()))).compact);
  else throw new UsageError('flowpost secret takes keygen, encrypt or rotate.');
  return exitCodes.sent;
};

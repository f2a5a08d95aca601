import { createHash, createPrivateKey, type Hash, type KeyObject, sign } from 'node:crypto';
import { dnsNameSchema, MailError } from '@flowpost/core';
import { foldHeader } from './header.ts';

/** Who vouches for a message (RFC 6376): the owner of the domain whose DNS holds `<selector>._domainkey.<domain>`. */
export interface DkimIdentity {
  readonly domain: string;
  readonly selector: string;
  /** PEM, unencrypted: RSA of 1024 to 4096 bits (RFC 8301), or Ed25519 (RFC 8463). */
  readonly privateKey: string;
}

/**
 * Header fields worth vouching for (RFC 6376 section 5.4.1; RFC 8058 section 4 for the last two). Those of the first
 * line are signed once more than they occur, so that nobody can add another one (section 8.15).
 */
const oversigned = ['from', 'to', 'cc', 'subject', 'date'];
const signed = new Set([
  ...oversigned,
  ...'sender reply-to message-id in-reply-to references mime-version content-type content-transfer-encoding'.split(
    ' ',
  ),
  ...'auto-submitted list-unsubscribe list-unsubscribe-post'.split(' '),
]);

function keyError({ domain, selector }: DkimIdentity, why: string): MailError {
  return new MailError(
    'DKIM_KEY_INVALID',
    `The DKIM key ${selector}._domainkey.${domain} cannot be used: ${why}.`,
    {
      details: { domain, selector },
    },
  );
}

/**
 * Hashes a body in the relaxed form (RFC 6376 section 3.4.4): white space within lines becomes one space, at their
 * ends and in empty lines at the end of the body it counts for nothing. The body comes in pieces of any size; it must
 * have CRLF line ends.
 */
export class RelaxedBodyHash {
  readonly #hash: Hash = createHash('sha256');
  /** White space and line ends whose meaning depends on what follows. */
  #held = '';
  #isEmpty = true;

  update(chunk: Buffer): void {
    let end = chunk.length;
    while (end > 0 && isWhiteSpace(chunk[end - 1] as number)) end--;
    if (end === 0) {
      this.#held += chunk.toString('latin1');
      return;
    }
    const content = chunk.subarray(0, end);
    if (this.#held !== '') {
      // Spaces before a chunk belong to the spaces it begins with.
      const start = content.findIndex((byte) => !isWhiteSpace(byte));
      this.#hash.update(relax(this.#held + content.toString('latin1', 0, start)), 'latin1');
      this.#add(content.subarray(start));
    } else this.#add(content);
    this.#held = chunk.toString('latin1', end);
  }

  #add(content: Buffer): void {
    this.#isEmpty = false;
    // Base64 has no spaces, and it is most of a large message.
    const isPlain = content.indexOf(0x20) < 0 && content.indexOf(0x09) < 0;
    if (isPlain) this.#hash.update(content);
    else this.#hash.update(relax(content.toString('latin1')), 'latin1');
  }

  digest(): string {
    if (!this.#isEmpty) this.#hash.update('\r\n');
    return this.#hash.digest('base64');
  }
}

/** {@link RelaxedBodyHash} of a whole body, in base64. */
export async function hashBody(
  chunks: AsyncIterable<Buffer>,
  throwIfAborted: () => void = () => undefined,
): Promise<string> {
  const hash = new RelaxedBodyHash();
  for await (const chunk of chunks) {
    throwIfAborted();
    hash.update(chunk);
  }
  return hash.digest();
}

const isWhiteSpace = (byte: number): boolean =>
  byte === 0x20 || byte === 0x0d || byte === 0x0a || byte === 0x09;

function relax(text: string): string {
  return text.replace(/[ \t]+/g, ' ').replace(/ (?=\r\n)/g, '');
}

/** A header field in the relaxed form (RFC 6376 section 3.4.2), without its line end. */
function relaxField(field: string): string {
  const colon = field.indexOf(':');
  const value = field
    .slice(colon + 1)
    .replace(/\r\n/g, '')
    .replace(/[ \t]+/g, ' ')
    .replace(/^ | $/g, '');
  return `${field.slice(0, colon).trim().toLowerCase()}:${value}`;
}

/** Signs messages in the name of a domain, relaxed in header and body. */
export class DkimSigner {
  readonly #identity: DkimIdentity;
  readonly #key: KeyObject;

  /** @throws MailError `DKIM_KEY_INVALID`, also for a domain or selector that is no DNS name in ASCII. */
  constructor(identity: DkimIdentity) {
    this.#identity = identity;
    for (const name of ['domain', 'selector'] as const)
      if (!dnsNameSchema.safeParse(identity[name]).success)
        throw new MailError('DKIM_KEY_INVALID', `The DKIM ${name} is no DNS name in ASCII.`);
    try {
      this.#key = createPrivateKey(identity.privateKey);
    } catch {
      // What the library says may quote the text, so it goes no further.
      throw keyError(identity, 'it is not an unencrypted private key in PEM');
    }
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = this.#key;
    if (type === 'rsa' && (details?.modulusLength ?? 0) < 1024) {
      throw keyError(identity, 'an RSA key of less than 1024 bits protects nothing (RFC 8301)');
    }
    if (type === 'rsa' && (details?.modulusLength ?? 0) > 4096) {
      throw keyError(
        identity,
        'an RSA key of more than 4096 bits is one that receivers need not know (RFC 8301)',
      );
    }
    if (type !== 'rsa' && type !== 'ed25519')
      throw keyError(identity, `the key type ${type} is not one of DKIM`);
  }

  /**
   * The DKIM-Signature header line.
   *
   * @param header the header lines of the message, with their line ends.
   * @param bodyHash what {@link hashBody} gave for the body.
   * @param now the time of signing, in Unix milliseconds.
   */
  sign(header: string, bodyHash: string, now: number): string {
    const { domain, selector } = this.#identity;
    const fields = header.split(/\r\n(?![ \t])/).filter((field) => field !== '');
    const name = (field: string): string => field.slice(0, field.indexOf(':')).toLowerCase();
    // Several fields of one name are signed from the last to the first (section 5.4.2).
    const covered = fields.filter((field) => signed.has(name(field))).reverse();
    const names = [...covered.map(name), ...oversigned].join(': ');
    const rsa = this.#key.asymmetricKeyType === 'rsa';
    const tags = [
      `v=1; a=${rsa ? 'rsa' : 'ed25519'}-sha256; c=relaxed/relaxed;`,
      ` d=${domain}; s=${selector};`,
      ` t=${Math.floor(now / 1_000)};`,
      ...` h=${names};`.split(/(?= )/),
      ` bh=${bodyHash};`,
    ];
    const unsigned = foldHeader('DKIM-Signature', [...tags, ' b=']).slice(0, -2);
    const data = Buffer.from([...covered.map(relaxField), relaxField(unsigned)].join('\r\n'), 'utf8');
    // Ed25519 signs the hash (RFC 8463 section 3), RSA the data by way of the hash.
    const signature = rsa
      ? sign('sha256', data, this.#key)
      : sign(null, createHash('sha256').update(data).digest(), this.#key);
    const pieces = (signature.toString('base64').match(/.{1,70}/g) ?? []).join('\r\n ');
    return `${unsigned}\r\n ${pieces}\r\n`;
  }
}

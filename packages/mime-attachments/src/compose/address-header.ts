import { type EmailAddress, formatAddress, toWireAddress } from '@flowpost/core';
import { encodeWords, foldHeader, needsEncoding } from './header.ts';

/** One mailbox as pieces between which a line may be folded. */
function mailboxPieces({ name, address }: EmailAddress, firstLine: number): string[] {
  const wire = toWireAddress(address);
  if (name === undefined) return [wire];
  if (needsEncoding(name) || name.length > 200) return [...encodeWords(name, firstLine), `<${wire}>`];
  return [formatAddress({ name, address: wire })];
}

/** A header of addresses, such as To (RFC 5322 section 3.6.3). IDN domains are written as A-labels. */
export function addressHeader(name: string, addresses: readonly EmailAddress[]): string {
  const pieces: string[] = [];
  addresses.forEach((address, index) => {
    const own = mailboxPieces(address, 76 - name.length - 2);
    const last = own.length - 1;
    own.forEach((piece, at) => {
      const comma = at === last && index < addresses.length - 1 ? ',' : '';
      pieces.push(`${pieces.length > 0 ? ' ' : ''}${piece}${comma}`);
    });
  });
  return foldHeader(name, pieces);
}

import { type BaseBlock, fromBER, Integer, ObjectIdentifier, OctetString } from 'asn1js';

/** Something is not what the structure demands. Callers turn it into an error about the file. */
export class DerError extends Error {}

export type DerNode = BaseBlock;

export function parseDer(bytes: Uint8Array): DerNode {
  const { offset, result } = fromBER(bytes);
  if (offset === -1) throw new DerError(result.error || 'not DER');
  return result;
}

/** The elements of a SEQUENCE, SET or constructed tag. */
export function children(node: DerNode | undefined): DerNode[] {
  const { value } = (node?.valueBlock ?? {}) as { value?: unknown };
  if (!Array.isArray(value)) throw new DerError('a sequence is missing');
  return value;
}

export function oid(node: DerNode | undefined): string {
  if (node instanceof ObjectIdentifier) return node.getValue();
  throw new DerError('an object identifier is missing');
}

/** The bytes of an OCTET STRING, also of one in pieces or under an implicit tag. */
export function octets(node: DerNode | undefined): Buffer {
  if (node instanceof OctetString) return Buffer.from(node.getValue());
  const { valueHexView, value } = (node?.valueBlock ?? {}) as {
    valueHexView?: Uint8Array;
    value?: DerNode[];
  };
  if (Array.isArray(value) && value.length > 0) return Buffer.concat(value.map(octets));
  if (valueHexView) return Buffer.from(valueHexView);
  throw new DerError('an octet string is missing');
}

export function integer(node: DerNode | undefined): number {
  if (!(node instanceof Integer)) throw new DerError('an integer is missing');
  const value = node.toBigInt();
  if (value < 0n || value > 0x7fff_ffffn) throw new DerError('an integer is out of range');
  return Number(value);
}

export function isInteger(node: DerNode | undefined): boolean {
  return node instanceof Integer;
}

/** The node's own encoding. */
export function encoded(node: DerNode | undefined): Buffer {
  if (!node) throw new DerError('a value is missing');
  return Buffer.from(node.valueBeforeDecodeView);
}

import { EncryptedText } from '@flowpost/core';
import { z } from 'zod';
import { asNumber } from '../fields.ts';

/** What can be wrong with a property, each a name of the platform's own. */
export type PropertyProblem = 'null' | 'empty' | 'out-of-range' | 'enum' | 'encryption' | 'address' | 'host';

/** Reports a problem with the property the context stands at. */
export function report(
  context: z.RefinementCtx,
  problem: PropertyProblem,
  message: string,
  params: object = {},
): never {
  context.addIssue({ code: 'custom', message, params: { ...params, problem } });
  return z.NEVER;
}

/** A property that must not be null; one that is left out is null. */
export function notNull<Schema extends z.ZodType>(schema: Schema) {
  return schema.nullish().transform((value, context): NonNullable<z.output<Schema>> => {
    if (value === null || value === undefined) return report(context, 'null', 'it is null');
    return value as NonNullable<z.output<Schema>>;
  });
}

const notEmpty = <Value extends string | EncryptedText>(value: Value, context: z.RefinementCtx): Value =>
  value === '' ? report(context, 'empty', 'it is empty') : value;

/** Text that must be there. */
export const text = () => notNull(z.string()).transform(notEmpty);

const textOrEncrypted = z.union([z.string(), z.instanceof(EncryptedText)]);

/** Text that must be there and may be encrypted. */
export const encryptable = () => notNull(textOrEncrypted).transform(notEmpty);

/** Text that must be there and be encrypted: in clear it is refused, and not repeated. */
export const encrypted = () =>
  encryptable().transform((value, context) => {
    if (value instanceof EncryptedText || EncryptedText.isEncrypted(value)) return value;
    return report(context, 'encryption', 'it is not encrypted text');
  });

/** A member of an enumeration: by its name, its name with the enumeration's, or its number. null is the first one. */
export function enumeration<const Names extends readonly string[]>(name: string, names: Names) {
  return z
    .union([z.string(), z.number()])
    .nullish()
    .transform((value, context): Names[number] => {
      const wanted = value === '' || value === null || value === undefined ? 0 : asNumber(value);
      const found =
        typeof wanted === 'number'
          ? names[wanted]
          : names.find((one) => wanted === one || wanted === `${name}.${one}`);
      return (
        found ?? report(context, 'enum', `it is none of ${names.map((one) => `${name}.${one}`).join(', ')}`)
      );
    });
}

import {
  EncryptedText,
  isPlainObject,
  type SendPolicy,
  sendPolicySchema,
  tlsOptionsSchema,
} from '@flowpost/core';
import { z } from 'zod';

/** What forms hand over for a field left empty. */
export const isBlank = (value: unknown): boolean => value === '' || value === null;

/** A setting that may be left out. Forms hand over empty text, or null, for a field left empty. */
export function leftEmpty<Schema extends z.ZodType>(
  schema: Schema,
): z.ZodOptional<z.ZodType<z.output<Schema>, z.input<Schema> | '' | null>> {
  const missing = (value: unknown): unknown => (isBlank(value) ? undefined : value);
  // A preprocessed schema takes anything, as far as its type knows.
  return z.preprocess(missing, schema.optional()).optional() as never;
}

/** Text, or encrypted text. */
export const encryptable = z.union([z.string().min(1), z.instanceof(EncryptedText)], {
  error: 'it must be text, or encrypted text',
});

/**
 * The policy of a step that belongs to another platform: what it does not promise is off, so that flows made for it behave as
 * they do there.
 */
export function platformPolicy(policy: z.input<typeof sendPolicySchema>): SendPolicy {
  return sendPolicySchema.parse({ retry: { attempts: 1 }, loopGuard: false, ...policy });
}

type Scalar = string | number | boolean | bigint | null;
const scalars = ['number', 'boolean', 'bigint'];
/** A number or a truth value written out; nothing is empty. Anything else stays what it is. */
export const asText = (value: unknown): unknown => {
  if (value === null) return '';
  return scalars.includes(typeof value) ? String(value) : value;
};

/** Text as a form or the flow hands it over: a number or a truth value is written out, nothing is empty. */
export const flowText = z.preprocess(asText, z.string()).prefault('') as unknown as z.ZodDefault<
  z.ZodType<string, Scalar>
>;

/** The same where empty text is not text but a field left empty. */
export const optionalText = leftEmpty(
  z.preprocess(asText, z.string()) as unknown as z.ZodType<string, Exclude<Scalar, null>>,
);

const truths: Readonly<Record<string, boolean>> = {
  true: true,
  on: true,
  yes: true,
  false: false,
  off: false,
  no: false,
};
/** How a truth value may be written, in whatever case. */
export const truthNames = Object.keys(truths);
/** A truth value as a form hands it over: itself, or its name. Anything else stays what it is. */
export const asFlag = (value: unknown): unknown =>
  typeof value === 'string' ? (truths[value.trim().toLowerCase()] ?? value) : value;

/** A checkbox; left empty it is `otherwise`. */
export function flag(otherwise: boolean): z.ZodDefault<z.ZodType<boolean, boolean | string | null>> {
  const read = (value: unknown): unknown => (isBlank(value) ? otherwise : asFlag(value));
  return z.preprocess(read, z.boolean()).prefault(otherwise) as never;
}

/** How a number may be written. */
export const numberText = /^\s*[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\s*$/;

/** A number as a form hands it over: itself, or its text. */
export const asNumber = (value: unknown): unknown =>
  typeof value === 'string' && numberText.test(value) ? Number(value) : value;

/** One of several names, in whatever case. Anything else stays what it is. */
export const asChoice = (value: unknown): unknown =>
  typeof value === 'string' ? value.trim().toLowerCase() : value;

/** A choice; left empty it is `otherwise`, and case does not matter. */
export function choice<
  const Names extends readonly [string, ...string[]],
  Otherwise extends Names[number] | undefined,
>(
  names: Names,
  otherwise: Otherwise,
): z.ZodDefault<z.ZodType<Names[number] | Otherwise, Names[number] | '' | null>> {
  const read = (value: unknown): unknown => {
    if (isBlank(value)) return otherwise;
    return names.find((one) => one === asChoice(value)) ?? value;
  };
  const schema = z.preprocess(read, z.enum(names).optional());
  return (otherwise === undefined ? schema.optional() : schema.prefault(otherwise)) as never;
}

/**
 * An object as forms and the flow hand it over: a field left empty is not given, and the others are read by name.
 *
 * @param readers what becomes of single fields.
 * @param options.keeps fields whose empty text is text.
 * @param options.mayBeAbsent whether an object with nothing in it is a field left empty itself.
 */
export function asObject(
  readers: Readonly<Record<string, (value: unknown) => unknown>> = {},
  {
    keeps = [],
    mayBeAbsent = false,
  }: { readonly keeps?: readonly string[]; readonly mayBeAbsent?: boolean } = {},
): (value: unknown) => unknown {
  return (value) => {
    if (!isPlainObject(value)) return value;
    const read: Record<string, unknown> = {};
    let isSame = true;
    for (const [name, one] of Object.entries(value)) {
      const isLeftEmpty = isBlank(one) && (one === null || !keeps.includes(name));
      const meant = !isLeftEmpty && Object.hasOwn(readers, name) ? readers[name]?.(one) : one;
      if (!isLeftEmpty) read[name] = meant;
      if (isLeftEmpty || meant !== one) isSame = false;
    }
    if (mayBeAbsent && Object.values(read).every((one) => one === undefined)) return undefined;
    // Who knows an object by itself finds it again.
    return isSame ? value : read;
  };
}

export const isFilledIn = (value: unknown): boolean => !isBlank(value) && value !== undefined;

/** The fields of an object that are filled in. */
export function filledIn(value: unknown): unknown {
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, one]) => isFilledIn(one)));
}

export const asTlsOptions = asObject({ dangerouslyAcceptAnyCertificate: asFlag }, { mayBeAbsent: true });

/** A private authority, or a pinned certificate. */
export const tlsOptionsSetting = leftEmpty(
  z.preprocess(asTlsOptions, tlsOptionsSchema.optional()) as unknown as typeof tlsOptionsSchema,
);

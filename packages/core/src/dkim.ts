import { z } from 'zod';
import { secretSchema } from './credential.ts';

/** A name in the DNS as it is written there: A-labels. */
export const dnsNameSchema = z
  .string()
  .regex(/^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/i, 'it must be a DNS name in ASCII');

/**
 * Who vouches for the messages of a connection (RFC 6376). The public half of the key stands in the DNS, at
 * `<selector>._domainkey.<domain>`.
 */
export const dkimSchema = z
  .strictObject({
    domain: dnsNameSchema,
    selector: dnsNameSchema,
    /** PEM: RSA of 1024 to 4096 bits (RFC 8301), or Ed25519 (RFC 8463). May be encrypted text. */
    privateKey: secretSchema.optional(),
    /** The same in a file. */
    privateKeyFile: z.string().min(1).optional(),
  })
  .refine(({ privateKey, privateKeyFile }) => (privateKey === undefined) !== (privateKeyFile === undefined), {
    error: 'give either privateKey or privateKeyFile',
    path: ['privateKey'],
  });

/** In whose name a message is signed, and with which key (RFC 6376), checked. */
export type Dkim = z.output<typeof dkimSchema>;

import type { CredentialExpiry } from './auth-provider.ts';

/** How many days before the end people are told. */
const noticeDays = [30, 7, 1] as const;

/** That a credential ends soon, or has ended, and how urgent that is. */
export interface ExpiryNotice extends CredentialExpiry {
  /** Whole days left; negative once it has expired. */
  readonly daysLeft: number;
  /** The latest of the notices that are due: 30, 7 or 1 days before, or 0 when it has expired. */
  readonly due: 30 | 7 | 1 | 0;
}

/** The notice that is due now, or undefined when the end is more than 30 days away. */
export function expiryNotice(expiry: CredentialExpiry, now: number): ExpiryNotice | undefined {
  const daysLeft = Math.floor((expiry.expiresAt - now) / 86_400_000);
  const due =
    now >= expiry.expiresAt ? 0 : noticeDays.findLast((days) => expiry.expiresAt - now <= days * 86_400_000);
  return due === undefined ? undefined : { ...expiry, daysLeft, due };
}

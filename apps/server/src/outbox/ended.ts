import { MailError } from '@flowpost/core';

/** Nothing was handed over. */
export const ended = new MailError(
  'PROCESS_ENDED',
  'The process that was sending this ended in the middle.',
  {
    retryable: true,
  },
);
/** Something may have been. */
export const inDoubt = new MailError(
  'DELIVERY_IN_DOUBT',
  'The process that was sending this ended while the message may have been leaving.',
  {
    phase: 'confirm',
    hint: 'Nobody knows whether it left, or how much of it. Look for its Message-ID where it should have arrived, then say what it was with POST /v1/deliveries/{id}/resolve.',
  },
);

import type { OutgoingMessage } from '@flowpost/core';

/** A message as it is when it is handed over: whoever gave it may use it for the next one meanwhile. */
export const asGiven = (message: OutgoingMessage): OutgoingMessage =>
  Object.isFrozen(message) ? message : { ...message };

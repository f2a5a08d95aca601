export { tokenEndpointAt } from '@flowpost/auth-providers';
// What functions here return, by a name that whoever imports only this package can write.
export type { MailSender, SendReceipt } from '@flowpost/core';
export type { ComposedMessage } from '@flowpost/mime-attachments';
export { type ConnectionTarget, connectionTarget } from './connection-target.ts';
export { createSender } from './create-sender.ts';
export { contentHash } from './guards/content-hash.ts';
export { type DuplicateGuardOptions, withDuplicateGuard } from './guards/duplicate-guard.ts';
export { assertNoLoop, type MailTrigger, mailboxesOf, withLoopGuard } from './guards/loop-guard.ts';
export {
  beyondLimit,
  continuedReceipt,
  leftOver,
  openIn,
  type RecipientDetails,
  receiptInDoubt,
  recipientsIn,
  refusedForNow,
} from './guards/partial-receipt.ts';
export { type PinOptions, pinAttachments } from './guards/pinned-attachments.ts';
export { type RetryOptions, withRetry } from './guards/retry.ts';
export { applySandbox, withSandbox } from './guards/sandbox.ts';
export { Unconfirmed } from './guards/unconfirmed.ts';
export type { ComposerOptions } from './message-composer.ts';
export { previewMessage } from './preview-message.ts';
export type { SenderOptions } from './sending.ts';
export { findService, listServices, type MailService } from './services/find-service.ts';
export type { ServiceProfile } from './services/service-profiles.ts';
export { connectionFingerprint } from './smtp/fingerprint.ts';
export { verifyConnection } from './verify/verify-connection.ts';
export {
  type VerifyOptions,
  type VerifyReport,
  type VerifyStep,
  type VerifyStepName,
  verifySteps,
} from './verify/verify-steps.ts';

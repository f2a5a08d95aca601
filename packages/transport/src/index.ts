export { createSender } from './create-sender.ts';
export type { ComposerOptions } from './message-composer.ts';
export { previewMessage } from './preview-message.ts';
export { findService, type MailService } from './services/find-service.ts';
export { connectionFingerprint } from './smtp/fingerprint.ts';
export type { SenderOptions } from './smtp/smtp-sender.ts';

export { atMost } from './at-most.ts';
export type { AttachmentPolicy, UrlPolicy } from './attachment-policy.ts';
export {
  type ComposedMessage,
  type ComposeOptions,
  composeMessage,
  type Envelope,
} from './compose/compose-message.ts';
export { type DkimIdentity, DkimSigner } from './compose/dkim.ts';
export { AddressGuard, isPublicAddress } from './fetching/address-guard.ts';
export { createGuardedFetch, type GuardedFetchOptions } from './fetching/guarded-agent.ts';
export { type OpenedAttachment, type OpenedAttachments, openAttachments } from './open-attachments.ts';

export type { AttachmentPolicy } from './attachment-policy.ts';
export {
  type ComposedMessage,
  type ComposeOptions,
  composeMessage,
  type Envelope,
} from './compose/compose-message.ts';

export {
  type AddressInput,
  type AddressProblem,
  addressKey,
  addressListSchema,
  domainOf,
  type EmailAddress,
  formatAddress,
  mailboxKey,
  needsSmtpUtf8,
  parseAddresses,
  sameMailbox,
  singleAddressSchema,
  toWireAddress,
} from './address.ts';
export {
  type Attachment,
  type AttachmentInput,
  type AttachmentKind,
  type AttachmentOf,
  attachmentSchema,
  bytesSchema,
  isMediaType,
} from './attachment.ts';
export {
  type Connection,
  type ConnectionInput,
  connectionSchema,
  hostSchema,
  isLoopbackHost,
  type Microsoft365Connection,
  parseConnection,
  portSchema,
  resolveTlsMode,
  type SmtpConnection,
  type Timeouts,
  type TlsMode,
  type TlsOptions,
  tlsModeSchema,
  tlsOptionsSchema,
} from './connection.ts';
export {
  type Credential,
  type CredentialInput,
  type CredentialKind,
  type CredentialOf,
  credentialSchema,
  type Login,
  secretFields,
} from './credential.ts';
export { definedOnly } from './defined-only.ts';
export { type Dkim, dkimSchema, dnsNameSchema } from './dkim.ts';
export { makeFolder, replaceFile, syncFolderOf } from './durable-file.ts';
export {
  EncryptedText,
  formatSecretKey,
  generateSecretKey,
  SecretBox,
  type SecretKey,
} from './encrypted-text.ts';
export { anySignal, cancellationOf, linkAbort, untilAborted } from './errors/cancellation.ts';
export {
  certificateReasons,
  httpsCertificateHints,
  isCertificateReason,
} from './errors/certificate-reasons.ts';
export { type ErrorCategory, type ErrorCode, type ErrorCodeEntry, errorCodes } from './errors/error-codes.ts';
export { isError } from './errors/is-error.ts';
export {
  adviceOf,
  copyMailError,
  type ErrorDetails,
  isMailError,
  MailError,
  type MailErrorJson,
  type MailErrorOptions,
  toMailError,
} from './errors/mail-error.ts';
export { regardless } from './errors/regardless.ts';
export { parseWith, type SchemaIssue } from './errors/schema-error.ts';
export { isAsWritten, parseAsWritten, parseExactly } from './exact-json.ts';
export { headerTextProblem } from './header-text.ts';
export { isLaterStatus, retryAfterMs } from './http-answer.ts';
export {
  asCheckedMessage,
  calendarMethod,
  type EmailMessage,
  type EmailMessageInput,
  emailMessageSchema,
  isCheckedMessage,
  type Priority,
  parseMessage,
  prioritySchema,
} from './message.ts';
export { createMessageId } from './message-id.ts';
export { isInDoubt, isRetryable, type Phase, phases } from './phase.ts';
export { isPlainObject } from './plain-object.ts';
export { type BackgroundRunner, InProcessRunner } from './ports/background-runner.ts';
export { type Clock, longestTimerMs, ManualClock, systemClock } from './ports/clock.ts';
export { type DuplicateStore, MemoryDuplicateStore, type Reservation } from './ports/duplicate-store.ts';
export {
  guardLogger,
  type LogEntry,
  type LogFields,
  type Logger,
  MemoryLogger,
  silentLogger,
} from './ports/logger.ts';
export { type Lookup, systemLookup } from './ports/lookup.ts';
export {
  isTokensInUse,
  MemoryTokenStore,
  type StoredTokens,
  type TokenStore,
  tokensInUse,
} from './ports/token-store.ts';
export { lockPath, readBootId } from './process-lock.ts';
export { readText } from './read-text.ts';
export { noTimings, type RejectedRecipient, type SendReceipt, type SendTimings } from './receipt.ts';
export { NoSuitableFile, readRegularFile } from './regular-file.ts';
export { revealSecret, type Secret, SecretBytes, SecretText } from './secret.ts';
export {
  type DeliveryNotification,
  deliveryNotificationSchema,
  type Sandbox,
  type SendPolicy,
  type SendRequest,
  type StoreResult,
  sendPolicySchema,
  storeResultSchema,
} from './send-request.ts';
export type {
  MailSender,
  OutgoingMessage,
  SendOptions,
  TranscriptLine,
  TranscriptListener,
} from './sender.ts';
export { portOf, withoutBrackets } from './url-endpoint.ts';

/**
 * What kind of thing went wrong, and so who can mend it.
 *
 * | category | who mends it |
 * | --- | --- |
 * | `input` | the author of the message or of the step's settings |
 * | `attachment` | the author: a file or source is missing, refused or broken |
 * | `configuration` | whoever set up the connection |
 * | `authentication` | whoever holds the account |
 * | `tls` | whoever runs the server or its certificates; nothing was trusted, nothing was sent |
 * | `network` | nobody, mostly: try again |
 * | `temporary` | the server said "later" (4yz) |
 * | `refused` | the server said "no" (5yz) |
 * | `in-doubt` | a person: the server may or may not have the message |
 * | `cancelled` | the caller asked for it |
 * | `internal` | us: a defect in this software |
 */
export type ErrorCategory =
  | 'input'
  | 'attachment'
  | 'configuration'
  | 'authentication'
  | 'tls'
  | 'network'
  | 'temporary'
  | 'refused'
  | 'in-doubt'
  | 'cancelled'
  | 'internal';

/** What to do about an error, by its category and code, in one or two sentences a person can act on. */
const hints = {
  input: {
    INPUT_INVALID:
      'Correct the fields listed in details.issues; each entry names the field and what is wrong with it.',
    ADDRESS_INVALID:
      'Write addresses as name@example.com or "Name" <name@example.com>, separated by commas; details.problems names each bad part and where it stands.',
    RECIPIENTS_MISSING: 'Give at least one address in to, cc or bcc.',
    HEADER_INVALID: 'Remove line breaks and control characters from the value; a header is one line of text.',
    DYNAMIC_FIELD_MISSING:
      'The flow has no value at details.path when the step runs. Correct the path, or give a value for this case: {{ input.name | default: "" }}.',
    DYNAMIC_FIELD_INVALID:
      'Correct the expression in the field details.field; it is Liquid over input, context, variables and trigger (in a batch over row), without files.',
    RECIPIENT_NOT_ALLOWED:
      'The sandbox lets mail go to the domains it lists only. Send to one of those, or take the sandbox away where mail is meant to go out. Nothing was sent.',
    NODE_TYPE_UNKNOWN: 'Use one of the node types listed in details.known.',
    MAIL_LOOP_BLOCKED:
      'The flow was started by a message from this mailbox, so an answer to it could go round in circles. Send to another address, or switch the loop guard off where this is meant.',
    MAIL_LOOP_AUTOMATIC:
      'The flow was started by an automatic reply or by bulk mail (RFC 3834), and such mail is not answered. Filter it before the flow, or switch the loop guard off where this is meant.',
    DUPLICATE_CONFLICT:
      'This key was used for other content within the window. Use another key for another message.',
    IDEMPOTENCY_CONFLICT:
      'This Idempotency-Key was used for another request. Use a new key for a new request.',
    DELIVERY_NOT_FOUND: 'There is no such delivery, or it is older than deliveries are kept.',
    DELIVERY_STATE_WRONG:
      'Look at the state of the delivery: what was asked for is possible in the states in details.possible only.',
    RESULT_KEY_INVALID:
      'Name a place such as "mail.result": parts joined by dots, none of them empty or reserved, and no part inside a value that is not an object.',
    FILE_UNREADABLE:
      'Check that the path is right, that the file can be read, and that its content has the expected format.',
  },
  attachment: {
    ATTACHMENT_NOT_FOUND:
      'Check the path and that the file still exists when the step runs. Nothing was sent.',
    ATTACHMENT_NOT_A_FILE: 'Name a regular file, not a folder or device. Nothing was sent.',
    ATTACHMENT_ACCESS_DENIED:
      'Give the account this runs under the right to read the file. Nothing was sent.',
    ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS:
      'Move the file into an allowed folder (of a server that is files in its data folder), or have the host allow its folder. Nothing was sent.',
    ATTACHMENT_TOO_LARGE:
      'Attach a smaller file, or raise the limit where the host allows it. Nothing was sent.',
    ATTACHMENT_CHANGED:
      'The file changed while it was being read. Run the step again once it has been written completely.',
    ATTACHMENT_UNREADABLE: 'Reading the attachment failed; details say how. Nothing was sent.',
    ATTACHMENT_INVALID:
      'Correct the attachment named in details; its content, name or type is not what its kind demands.',
    ATTACHMENT_URL_REFUSED:
      'Use an http or https URL of a public server without user name and password in it. For a server in a private network, or on another port, have the host allow it. Nothing was sent.',
    ATTACHMENT_UNREACHABLE:
      'The server of the URL could not be reached or could not answer (details say how). Nothing was sent; try again later.',
    ATTACHMENT_TIMED_OUT:
      'Fetching the URL took longer than allowed. Nothing was sent; try again later, or raise the limit where the host allows it.',
    ATTACHMENT_TRUNCATED: 'The server of the URL broke off in the middle. Nothing was sent; try again later.',
  },
  configuration: {
    CONNECTION_INVALID:
      'Correct the connection, for example smtps://user:password@smtp.example.com:465 or smtp://smtp.example.com:587.',
    CONNECTION_NOT_FOUND: 'Give the id or name of a stored connection, or create it first.',
    CONNECTION_NAME_TAKEN: 'Give the connection another name, or change the one that has it.',
    SERVICE_UNKNOWN: 'Use the name of a known service, or give host and port instead.',
    MAILBOX_NOT_FOUND:
      'Correct the Object ID (or address) of the sending user: there is no such user with a mailbox in this tenant. It is the Object ID of the user, not of the application.',
    SECRET_KEY_MISSING:
      'Configure the secret key this text was encrypted with (details.keyId); keep old keys after a rotation until everything is encrypted anew.',
    DKIM_KEY_INVALID:
      'Give the private key that belongs to the DKIM record as PEM: RSA with 1024 bits or more (2048 recommended), or Ed25519.',
    SECRET_KEY_INVALID: 'A secret key is 32 random bytes in base64url, written as KEYID:KEY.',
    ENCRYPTED_TEXT_INVALID:
      'Encrypt the value again: it is damaged, was changed, or is not encrypted text at all.',
    HOST_NOT_FOUND: 'Check the spelling of the host name; no such host exists in the DNS.',
    TLS_WRONG_MODE:
      'Change the tls setting: implicit for a server that speaks TLS from the first byte (usually port 465), starttls for one that upgrades (usually port 587 or 25).',
    AUTH_NOT_OFFERED:
      'The server offers no login on this port. Remove the credentials, or use the submission port (587 or 465).',
    AUTH_MECHANISM_UNAVAILABLE:
      'The server takes none of the login methods this credential can use; details list both sides.',
    AUTH_IN_CLEAR_REFUSED:
      'The connection is not encrypted, so the credentials were not sent. Use tls implicit or starttls; only if the network itself is safe, set allowPlaintextAuth.',
    TOKEN_ENDPOINT_INVALID:
      'Give the token endpoint as an https URL, such as https://login.microsoftonline.com/TENANT/oauth2/v2.0/token.',
    TOKEN_SCOPE_INVALID:
      'Correct the scope. For client credentials with Microsoft it is one resource and /.default: https://outlook.office365.com/.default for SMTP, https://graph.microsoft.com/.default for Microsoft Graph. Left out, it is the right one.',
    TOKEN_REQUEST_INVALID:
      'The authorization server does not take a request of this kind. Check the token endpoint and which grants the client may use.',
    TOKEN_RESPONSE_INVALID:
      'The answer holds no access token. Check that the URL is a token endpoint (RFC 6749 section 3.2).',
    TOKEN_STORE_FAILED:
      'Check that the folder for tokens exists or can be made, and that this account may read and write in it.',
    CREDENTIAL_INCOMPLETE: 'Fill in the parts of the credential that details.missing names.',
    CERTIFICATE_NOT_FOUND: 'Check the path of the certificate file and that this machine has it.',
    CERTIFICATE_NOT_A_FILE: 'Name the certificate file itself, not a folder or device.',
    CERTIFICATE_ACCESS_DENIED: 'Give the account this runs under the right to read the certificate file.',
    CERTIFICATE_UNREADABLE: 'Reading the certificate file failed; details.reason says how.',
    CERTIFICATE_TOO_LARGE: 'A certificate file has a few kilobytes; check that this is the right file.',
    CERTIFICATE_NOT_RECOGNIZED:
      'Give a PKCS#12 file (.pfx or .p12), a PEM file with certificate and private key, or the JSON key of a Google service account.',
    CERTIFICATE_PASSWORD_WRONG: 'Correct the password of the certificate file; upper and lower case matter.',
    CERTIFICATE_KEY_MISSING:
      'The file holds no private key that fits its certificate. Export it again, private key included.',
    CERTIFICATE_CIPHER_UNSUPPORTED:
      'The file is encrypted in a way that is no longer safe or not known. Export it again with AES-256, for example with openssl pkcs12 -export.',
    CERTIFICATE_KEY_UNSUITABLE:
      'The issuer takes only RSA keys of 2048 to 8192 bits. Use a certificate with such a key.',
    CERTIFICATE_TOO_COSTLY:
      'The file demands more key derivation than is reasonable. Export it again with fewer iterations, such as 600000.',
    CERTIFICATE_NOT_YET_VALID: "The certificate is not valid yet. Check its dates and this machine's clock.",
    CERTIFICATE_EXPIRED:
      'The certificate has expired. Make a new one, upload it to the application, and use it here.',
  },
  network: {
    DNS_UNAVAILABLE:
      'The name server did not answer. Try again; if it lasts, check the DNS settings of this machine.',
    CONNECTION_REFUSED:
      'Nothing listens at this host and port, or a firewall refuses. Check the port, or try again later.',
    CONNECTION_UNREACHABLE:
      'There is no route to this host. Check the network and firewall, or try again later.',
    CONNECTION_TIMED_OUT:
      'The server did not answer in time. Check host, port and firewall, or try again later.',
    CONNECTION_LOST:
      'The connection broke before the message was handed over completely. Nothing was delivered; sending again is safe.',
    PROTOCOL_VIOLATED:
      'The server answered with something that is not SMTP. Check that host and port belong to a mail server.',
    SEND_TIMED_OUT:
      'The time allowed for the whole send ran out before the message was handed over. Nothing was delivered; allow more time or try again later.',
    TOKEN_ENDPOINT_UNREACHABLE:
      'The authorization server cannot be reached. Check the URL, the network and the firewall, or try again later.',
    TOKEN_ENDPOINT_TIMED_OUT: 'The authorization server did not answer in time. Try again later.',
    TOKEN_RESPONSE_NOT_JSON:
      'The answer is not JSON: usually a proxy, a sign-in page of the network, or a wrong URL answered. Check the URL and what stands in between.',
  },
  tls: {
    TLS_NOT_OFFERED:
      'The server does not offer STARTTLS, so nothing was sent. Use the port with implicit TLS (465); if a device in between strips STARTTLS, have it stopped.',
    TLS_CERTIFICATE_EXPIRED:
      "The server's certificate has expired. Its operator must renew it; check this machine's clock too.",
    TLS_CERTIFICATE_NOT_YET_VALID: "The server's certificate is not valid yet. Check this machine's clock.",
    TLS_CERTIFICATE_UNTRUSTED:
      "No trusted authority vouches for the server's certificate. For a private authority give its certificate in tlsOptions.ca or caFile, or pin the server's fingerprint in tlsOptions.fingerprints.",
    TLS_CERTIFICATE_WRONG_HOST:
      'The certificate belongs to another host name. Use the name it was issued for (details.certificateNames), or set tlsOptions.serverName.',
    TLS_CERTIFICATE_REVOKED: "The server's certificate has been revoked. Its operator must replace it.",
    TLS_FINGERPRINT_MISMATCH:
      'The server shows another certificate than the pinned one. If it was renewed, pin the new fingerprint after checking it with the operator.',
    TLS_PROTOCOL_TOO_OLD:
      'The server speaks only TLS versions below the required minimum. Its operator must enable TLS 1.2 or newer.',
    TLS_INJECTION:
      'Somebody in between, or a broken server, said something in clear before encryption began. Nothing was trusted, nothing was sent. Have the network checked, or use the port with implicit TLS (465).',
    TLS_FAILED: 'The TLS handshake failed; details carry the reason given by the TLS library.',
  },
  authentication: {
    AUTH_REFUSED:
      'Check user name and password. Many providers demand an app password or OAuth instead of the account password.',
    AUTH_REQUIRED:
      'The server wants a login before it takes mail. Give the connection credentials, and use the submission port (587 or 465).',
    TOKEN_CLIENT_REFUSED:
      'The authorization server does not accept the client. Check client id, tenant, and secret or certificate.',
    TOKEN_GRANT_REFUSED:
      'What the token was to be got with is no longer valid or never was: sign in again for a new refresh token, or check certificate, clock and user.',
    TOKEN_CLIENT_UNAUTHORIZED:
      'The client may not do this. Have an administrator authorise it: the grant, the scope, and for Google domain-wide delegation.',
    TOKEN_ACCESS_DENIED:
      'A policy of the organisation refuses the token. Ask its administrator about consent and conditional access.',
    TOKEN_CONSENT_MISSING:
      'The token carries no permission. Add the application permission SMTP.SendAsApp (or Mail.Send for Graph) and have an administrator grant consent. Where its rights come from Exchange (RBAC for Applications) instead, set exchangeRbac in its credential.',
    GRAPH_PERMISSION_MISSING:
      'The application lacks a permission for this mailbox. Add the application permission named in details.permission to it, have an administrator grant consent, and see that no access policy or RBAC scope leaves the mailbox out. New grants take up to two hours.',
    TOKEN_EXPIRED:
      'The access token has expired and there is no refresh token. Sign in again, or use OAuth2 client credentials.',
  },
  temporary: {
    AUTH_DEFERRED:
      'The server cannot check the login at the moment (4yz). Do not change the password; try again later.',
    PROCESS_ENDED:
      'The process that was sending this ended before the message was handed over. Nothing was delivered; send it again.',
    FOLDER_IN_USE:
      'Stop the other process, or give this one a folder of its own. Several processes at once need PostgreSQL (DATABASE_URL).',
    STORAGE_UNAVAILABLE:
      'The database or its disk cannot take anything at the moment. Nothing was accepted; try again later.',
    GREETING_DEFERRED: 'The server is busy or limits this client. Try again later.',
    SENDER_DEFERRED: 'The server does not take mail from this sender at the moment. Try again later.',
    RECIPIENTS_DEFERRED: 'The server does not take mail for these recipients at the moment. Try again later.',
    DUPLICATE_PENDING:
      'The same message is being sent, or its outcome is in doubt. Wait for that outcome; once the window has passed it may be sent again.',
    MESSAGE_DEFERRED: 'The server did not take the message this time. Try again later.',
    TOKEN_ENDPOINT_BUSY:
      'The authorization server is overloaded or limits this client. Try again later, not before details.retryAfterMs.',
  },
  refused: {
    GREETING_REFUSED:
      'The server refuses to talk to this machine. Its reply says why; often the address is on a block list.',
    SENDER_REFUSED:
      'The server does not let this login send as the From address. Use the address that belongs to the login, or have the right to send as the other one granted.',
    RECIPIENTS_REFUSED:
      'The server refused the recipients listed in details.rejected. Check the addresses; its replies say why.',
    MESSAGE_REFUSED:
      "The server refused the message itself. Its reply says why: size, content or the sender's reputation.",
    MESSAGE_TOO_LARGE:
      'The message is larger than this server takes (details.limitBytes). Send less, or send a link. Attachments grow by a third when encoded.',
    REQUIRETLS_NOT_OFFERED:
      'The server cannot promise TLS for the whole way (REQUIRETLS). Send over another server, or without requireTls.',
    SMTPUTF8_NOT_OFFERED:
      'An address has non-ASCII characters before the @, and this server cannot carry such addresses. Use an ASCII address for these recipients.',
  },
  'in-doubt': {
    DUPLICATE_IN_DOUBT:
      'An earlier send of the same may have been delivered; details.earlier says what is known of it. Ask the recipient. To send it all the same use another idempotencyKey, or wait until the window has passed; on the server resolve the delivery that details.earlier.delivery names. Nothing was sent this time.',
    DELIVERY_IN_DOUBT:
      'The message was handed over completely, but the reply was lost: it may or may not have been delivered. Look for the Message-ID in the Sent folder or ask the recipient before sending again.',
  },
  cancelled: {
    DELIVERY_CANCELLED:
      'Somebody cancelled the delivery before it was sent. Nothing was delivered; it can be queued again.',
    SEND_CANCELLED: 'The caller cancelled. Nothing was delivered; send again whenever you like.',
  },
  internal: {
    SENDER_CLOSED: 'The sender or its scope was closed before this send. Create a new one.',
    INTERNAL: 'This is a defect. Please report it with the code and the phase.',
  },
} as const satisfies Record<ErrorCategory, Readonly<Record<string, string>>>;

type Hints = typeof hints;

/** Stable: hosts match on it, and dialects map it to their platform's names. */
export type ErrorCode = { [Category in ErrorCategory]: keyof Hints[Category] }[ErrorCategory] & string;

/** What kind of failure a code stands for, and what to do about it unless the error itself says more. */
export interface ErrorCodeEntry {
  readonly category: ErrorCategory;
  readonly hint: string;
}

/**
 * The one table of error codes. Whether an error can be retried is not in it, because that follows from the phase
 * and the reply code (see `phase.ts`).
 */
export const errorCodes = Object.fromEntries(
  Object.entries(hints).flatMap(([category, codes]) =>
    Object.entries(codes).map(([code, hint]) => [code, { category, hint }]),
  ),
) as unknown as Readonly<Record<ErrorCode, ErrorCodeEntry>>;

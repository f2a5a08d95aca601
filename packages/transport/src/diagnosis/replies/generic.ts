import { minute, type ReplyRule } from '../reply-rule.ts';

/** There are as many sessions as a server takes. */
export const tooManySessions = 'session.too-many';

/** Enhanced status codes that mean the same everywhere (RFC 3463, RFC 5248, RFC 4954, RFC 7372). */
export const genericReplies: readonly ReplyRule[] = [
  {
    id: 'auth.temporary',
    refused: 'auth',
    code: 454,
    enhanced: '4.7.0',
    hint: 'The server cannot check the login at the moment. The password need not be wrong; do not change it, try again later.',
    retryAfterMs: minute,
  },
  {
    id: 'auth.password-transition',
    code: 432,
    enhanced: '4.7.12',
    hint: 'The password must be used once with another mechanism, or set anew, before this login works.',
  },
  {
    id: 'auth.too-weak',
    code: 534,
    enhanced: '5.7.9',
    hint: 'The server finds this way to log in too weak for the account. Use OAuth2, or an app password.',
  },
  {
    id: 'auth.encryption-required',
    code: [530, 538],
    enhanced: '5.7.11',
    errorCode: 'AUTH_REQUIRED',
    hint: 'The server takes logins only over TLS. Set tls to starttls or implicit.',
  },
  {
    id: 'auth.starttls-first',
    code: 530,
    text: /STARTTLS/i,
    errorCode: 'AUTH_REQUIRED',
    hint: 'The server takes nothing before STARTTLS. Set tls to starttls.',
  },
  {
    id: 'auth.required',
    code: 530,
    errorCode: 'AUTH_REQUIRED',
    hint: 'The server wants a login before it takes mail. Give the connection credentials, and use port 587 or 465.',
  },
  {
    id: 'auth.refused',
    code: 535,
    hint: 'Check user name and password. Many providers demand an app password or OAuth2; with OAuth2 the user must be the mailbox the token is for, and a custom From address must be left empty or be allowed to it.',
  },
  { id: 'address.unknown', enhanced: '5.1.1', hint: 'There is no such mailbox. Correct the address.' },
  {
    id: 'address.bad-domain',
    enhanced: '5.1.2',
    hint: 'The domain of the address does not exist or takes no mail. Correct it.',
  },
  {
    id: 'address.bad-syntax',
    enhanced: '5.1.3',
    hint: 'The server cannot make sense of the address. Correct it.',
  },
  {
    id: 'address.bad-sender',
    enhanced: /^5\.1\.[78]$/,
    hint: 'The server does not accept the sender address; its domain may not exist.',
  },
  {
    id: 'address.null-mx',
    enhanced: '5.1.10',
    hint: 'The domain of the address takes no mail at all (RFC 7505).',
  },
  {
    id: 'mailbox.disabled',
    enhanced: '5.2.1',
    hint: 'The mailbox is switched off. Ask the recipient for another address.',
  },
  {
    id: 'mailbox.full',
    enhanced: /^[45]\.2\.2$/,
    hint: 'The mailbox is full. The recipient has to make room.',
  },
  {
    id: 'mailbox.message-too-long',
    enhanced: '5.2.3',
    hint: 'The message is larger than this recipient takes. Send less, or a link.',
  },
  {
    id: 'system.full',
    enhanced: /^[45]\.3\.1$/,
    hint: "The server's storage is full. Try again later, or tell its operator.",
  },
  {
    id: 'system.too-big',
    enhanced: '5.3.4',
    errorCode: 'MESSAGE_TOO_LARGE',
    hint: 'The message is larger than the server takes. Send less, or a link. Attachments grow by a third when encoded.',
  },
  {
    id: 'network.routing-loop',
    enhanced: /^[45]\.4\.6$/,
    hint: 'The mail system passes the message in a circle. Its operator has to mend the routing.',
  },
  {
    id: 'session.used-up',
    refused: 'sender',
    enhanced: '4.5.3',
    hint: 'The server takes no more messages in one session. Another one is opened for the next.',
  },
  {
    id: tooManySessions,
    refused: 'greeting',
    code: 421,
    text: /too many (?:[\w-]+ ){0,3}(?:connections|sessions)/i,
    hint: 'The server takes fewer sessions from here, at once or in a minute. Set limits.connections to fewer, for each process that sends, and keep them open.',
  },
  {
    id: 'protocol.too-many-recipients',
    enhanced: /^[45]\.5\.3$/,
    hint: 'Too many recipients for one message. Send it to fewer at a time.',
  },
  { id: 'content.invalid', enhanced: '5.6.0', hint: "The server does not accept the message's format." },
  // Postfix says at RCPT what it thinks of client and sender (smtpd_delay_reject).
  {
    id: 'policy.sender-refused-late',
    refused: 'recipients',
    enhanced: '5.7.1',
    text: /sender address rejected/i,
    errorCode: 'SENDER_REFUSED',
    hint: 'The server does not let this login, or nobody without one, send with this From address. Send with the address of the login, or have it allowed to use this one.',
  },
  {
    id: 'policy.client-refused-late',
    refused: 'recipients',
    enhanced: '5.7.1',
    text: /client host rejected/i,
    hint: 'The server takes nothing from this machine. Give the connection credentials where there are none, or have its address allowed.',
  },
  {
    id: 'greeting.unknown',
    refused: 'greeting',
    code: [500, 502],
    hint: 'The server does not know the greeting. Perhaps this port is for LMTP and not for SMTP, or the other way round: change port or protocol.',
  },
  {
    id: 'policy.refused',
    refused: ['auth', 'sender', 'recipients', 'message'],
    enhanced: '5.7.1',
    hint: 'A policy of the server forbids this: relaying without login, this sender, or this content. Its reply says which; log in with the account the From address belongs to.',
  },
  {
    id: 'policy.spf',
    enhanced: '5.7.23',
    hint: "The sender's domain does not allow this server to send for it (SPF). Add the server to the domain's SPF record, or send over the domain's own server.",
  },
  {
    id: 'policy.dkim',
    enhanced: /^5\.7\.2[0-2]$/,
    hint: 'The receiving side wants a valid DKIM signature. Configure dkim on the connection, with a key that is in the DNS.',
  },
  {
    id: 'policy.reverse-dns',
    enhanced: '5.7.25',
    hint: 'The address this machine sends from has no valid reverse DNS. Send over a relay with a login instead.',
  },
  {
    id: 'policy.authentication',
    enhanced: '5.7.26',
    hint: "Neither SPF nor DKIM proves the sender's domain. Set up at least one of them for it.",
  },
];

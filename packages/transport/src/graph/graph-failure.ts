import { type ErrorCode, isLaterStatus, MailError, type Phase, readText, retryAfterMs } from '@flowpost/core';

/** What a Graph error code means. Everything else goes by the HTTP status. */
interface GraphRule {
  readonly errorCode: ErrorCode;
  readonly hint?: string;
  readonly permission?: true;
}

const sizeHint =
  'The message is larger than Microsoft 365 takes of this mailbox. Send less, or send a link. Attachments grow by a third when encoded.';

/**
 * Graph's error codes at sending.
 *
 * @see https://learn.microsoft.com/graph/api/user-sendmail
 * @see https://learn.microsoft.com/graph/auth-limit-mailbox-access
 */
const rules: Readonly<Record<string, GraphRule>> = {
  ErrorAccessDenied: { errorCode: 'GRAPH_PERMISSION_MISSING', permission: true },
  Authorization_RequestDenied: { errorCode: 'GRAPH_PERMISSION_MISSING', permission: true },
  ErrorSendAsDenied: {
    errorCode: 'SENDER_REFUSED',
    hint: 'The mailbox may not send as this From address. Leave From empty or use the address of the mailbox, or have an administrator grant Send As.',
  },
  // Of a draft: it is gone, and can be made again.
  ErrorItemNotFound: { errorCode: 'MESSAGE_DEFERRED' },
  // Of a draft that the service has touched meanwhile: another one can be sent.
  ErrorIrresolvableConflict: { errorCode: 'MESSAGE_DEFERRED' },
  ErrorMessageSubmissionBlocked: {
    errorCode: 'SENDER_REFUSED',
    hint: 'Microsoft 365 lets this mailbox send nothing, for spam it has sent or for another reason. Have an administrator look at its restricted entities.',
  },
  ErrorQuotaExceeded: {
    errorCode: 'MESSAGE_REFUSED',
    hint: 'The sending mailbox is full, because what is sent is kept in Sent Items. Have it emptied, or its retention changed.',
  },
  ErrorInvalidUser: { errorCode: 'MAILBOX_NOT_FOUND' },
  ResourceNotFound: { errorCode: 'MAILBOX_NOT_FOUND' },
  Request_ResourceNotFound: { errorCode: 'MAILBOX_NOT_FOUND' },
  MailboxNotEnabledForRESTAPI: {
    errorCode: 'MAILBOX_NOT_FOUND',
    hint: 'The user has no Exchange Online mailbox: it needs a licence, lies on a server of your own, or was deleted.',
  },
  ErrorInvalidRecipients: {
    errorCode: 'RECIPIENTS_REFUSED',
    hint: 'Exchange does not accept the recipients. Check the addresses.',
  },
  ErrorMessageSizeExceeded: { errorCode: 'MESSAGE_TOO_LARGE' },
  RequestEntityTooLarge: { errorCode: 'MESSAGE_TOO_LARGE' },
  ErrorMimeContentInvalidBase64String: {
    errorCode: 'MESSAGE_REFUSED',
    hint: 'Graph cannot read the message. This is a defect; please report it.',
  },
};

const tokenHint =
  "Graph does not take the token. Check that its scope is that of Graph (https://graph.microsoft.com/.default, or the national cloud's), that tenantId is the tenant of the mailbox, that no token is given that has expired, and this machine's clock.";

/** What to do about an error, unless its own code says more. */
const hints: Partial<Readonly<Record<ErrorCode, string>>> = {
  AUTH_REFUSED: tokenHint,
  MESSAGE_TOO_LARGE: sizeHint,
};

/** Far more than Graph has to say about a message. */
const largestAnswer = 1_048_576;

/**
 * The object that an answer is; an empty one where it is something else.
 *
 * @throws whatever ends the reading of it.
 */
export async function readAnswer(response: Response): Promise<Readonly<Record<string, unknown>>> {
  const text = await readText(response.body, largestAnswer);
  try {
    const answer: unknown = JSON.parse(text);
    return typeof answer === 'object' && answer !== null ? { ...answer } : {};
  } catch {
    return {};
  }
}

/** What is not read holds a connection. That it cannot be left any more is no news: the answer was there. */
export async function leave(answer: Response): Promise<void> {
  await answer.body?.cancel().catch(() => undefined);
}

/** What a status means that no error of Graph explains. */
const byStatus: ReadonlyMap<number, ErrorCode> = new Map([
  [401, 'AUTH_REFUSED'],
  [403, 'GRAPH_PERMISSION_MISSING'],
  [404, 'MAILBOX_NOT_FOUND'],
  [413, 'MESSAGE_TOO_LARGE'],
]);

/** The answer stands for a reply of SMTP that means the same, so that both are judged alike. */
const replyCodes = { later: 450, final: 550 };

/** What Microsoft's support asks for. */
export function requestIdOf({ headers }: Response, scrub: (text: string) => string): string | undefined {
  const id = headers.get('request-id') ?? undefined;
  return id === undefined || id.length > 100 ? undefined : scrub(id);
}

/** An answer of Graph that is not the one hoped for. It came, so nothing about it is in doubt. */
export async function graphRefusal(
  response: Response,
  phase: Phase,
  permission: string,
  scrub: (text: string) => string,
): Promise<MailError> {
  const { status, headers } = response;
  // A server that is throttling says when to come back, and has done nothing; other failures of a server may come after
  // it has taken the message. 202 alone says that it has: other successes have been seen for what was never sent.
  const isPutOff = status === 503 && headers.has('retry-after');
  if (phase === 'confirm' && !isPutOff && (status < 300 || status === 408 || status >= 500)) {
    await leave(response);
    return new MailError('DELIVERY_IN_DOUBT', `Microsoft Graph answered ${status} instead of 202.`, {
      phase,
      details: { status },
    });
  }
  const { error } = await readAnswer(response).catch(() => ({ error: undefined }));
  const { code: givenCode, message: graphText = '' } = (error ?? {}) as Record<string, unknown>;
  const graphCode = typeof givenCode === 'string' ? givenCode : undefined;
  const rule = graphCode !== undefined && Object.hasOwn(rules, graphCode) ? rules[graphCode] : undefined;
  const isLater = isLaterStatus(status) || rule?.errorCode === 'MESSAGE_DEFERRED';
  const code = isLater ? 'MESSAGE_DEFERRED' : (rule?.errorCode ?? byStatus.get(status) ?? 'MESSAGE_REFUSED');
  const requestId = requestIdOf(response, scrub);
  const waitMs = retryAfterMs(headers, Date.now());
  const text = scrub([graphCode, graphText].filter(Boolean).join(': ')).slice(0, 500);
  return new MailError(code, `Microsoft Graph answered ${status}${text === '' ? '' : ` ${text}`}`, {
    phase: status === 401 ? 'auth' : phase,
    replyCode: isLater ? replyCodes.later : replyCodes.final,
    hint: rule?.hint ?? hints[code],
    details: {
      status,
      ...(graphCode !== undefined && { graphCode: scrub(graphCode).slice(0, 100) }),
      ...(code === 'GRAPH_PERMISSION_MISSING' && { permission }),
      ...(waitMs !== undefined && { retryAfterMs: waitMs }),
      ...(requestId !== undefined && { requestId }),
    },
  });
}

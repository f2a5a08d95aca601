import {
  certificateReasons,
  type ErrorCode,
  httpsCertificateHints,
  isError,
  isLaterStatus,
  MailError,
} from '@flowpost/core';
import { hintForEntraCode } from './entra-codes.ts';

/** What was seen of one request to a token endpoint. */
export interface Exchange {
  readonly host: string;
  /** Absent when there was no answer. */
  readonly status?: number;
  readonly retryAfterMs?: number | undefined;
  readonly text?: string;
  /** What was sent and must not be shown, wherever the server repeats it. */
  readonly secrets?: readonly string[];
}

/** The error codes of RFC 6749 section 5.2, and those that Microsoft and Google add. They alone decide our code. */
const byOAuthError: Readonly<Record<string, ErrorCode>> = {
  invalid_client: 'TOKEN_CLIENT_REFUSED',
  invalid_grant: 'TOKEN_GRANT_REFUSED',
  invalid_scope: 'TOKEN_SCOPE_INVALID',
  invalid_target: 'TOKEN_SCOPE_INVALID',
  invalid_resource: 'TOKEN_SCOPE_INVALID',
  invalid_request: 'TOKEN_REQUEST_INVALID',
  unsupported_grant_type: 'TOKEN_REQUEST_INVALID',
  unauthorized_client: 'TOKEN_CLIENT_UNAUTHORIZED',
  access_denied: 'TOKEN_ACCESS_DENIED',
  consent_required: 'TOKEN_ACCESS_DENIED',
  interaction_required: 'TOKEN_ACCESS_DENIED',
  admin_policy_enforced: 'TOKEN_ACCESS_DENIED',
  temporarily_unavailable: 'TOKEN_ENDPOINT_BUSY',
  server_error: 'TOKEN_ENDPOINT_BUSY',
  slow_down: 'TOKEN_ENDPOINT_BUSY',
};

interface OAuthErrorBody {
  readonly error: string;
  readonly error_description?: unknown;
  readonly error_codes?: unknown;
  readonly correlation_id?: unknown;
  readonly trace_id?: unknown;
}

function parseObject(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text ?? '');
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Words of small letters, as all error codes of OAuth are. */
const errorCode = /^[a-z_]{1,64}$/;

/** A text of the form it should have, unless it has to do with something secret that was sent. */
function shown(value: unknown, form: RegExp, { secrets = [] }: Exchange): string | undefined {
  if (typeof value !== 'string' || !form.test(value)) return undefined;
  const text = value.toLowerCase();
  const isSecret = secrets.some(
    (one) => one.toLowerCase().includes(text) || text.includes(one.toLowerCase()),
  );
  return isSecret ? undefined : value;
}

function oauthFailure(exchange: Exchange, body: OAuthErrorBody): MailError {
  const { host, status } = exchange;
  const known = Object.hasOwn(byOAuthError, body.error) ? byOAuthError[body.error] : undefined;
  const busy = isLaterStatus(status ?? 0);
  const code = busy ? 'TOKEN_ENDPOINT_BUSY' : (known ?? 'TOKEN_REQUEST_INVALID');
  const error = shown(body.error, errorCode, exchange) ?? 'an error that is no OAuth error code';
  const correlationId = shown(body.correlation_id, uuid, exchange);
  const traceId = shown(body.trace_id, uuid, exchange);
  const entraCodes = Array.isArray(body.error_codes)
    ? body.error_codes.filter((one) => typeof one === 'number')
    : [];
  const delay = exchange.retryAfterMs;
  return new MailError(code, `The authorization server ${host} refused the token: ${error}.`, {
    phase: 'token',
    hint: hintForEntraCode(entraCodes),
    details: {
      host,
      status,
      error,
      // Microsoft asks for these when one turns to its support.
      ...(correlationId !== undefined && { correlationId }),
      ...(traceId !== undefined && { traceId }),
      ...(entraCodes.length > 0 && { entraCodes }),
      ...(delay !== undefined && { retryAfterMs: delay }),
    },
  });
}

/** The system's code for a request that never got an answer. */
function networkReason(cause: unknown): string | undefined {
  for (let at = cause; isError(at); at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (typeof code === 'string' && !code.startsWith('OAUTH_')) return code;
  }
  return undefined;
}

/**
 * What a failed token request means. The OAuth `error` decides, and without one the status; numbers such as
 * AADSTS7000215 only choose the hint, because Microsoft says they change. Descriptions are left out of the error:
 * some issuers repeat in them what they were sent.
 */
export function tokenFailure(exchange: Exchange, cause: unknown, timedOut: boolean): MailError {
  const { host, status, text } = exchange;
  const fail = (code: ErrorCode, message: string, details: Record<string, unknown> = {}): MailError =>
    new MailError(code, `${host}: ${message}.`, { phase: 'token', details: { host, ...details } });
  const reason = networkReason(cause);
  if (timedOut) return fail('TOKEN_ENDPOINT_TIMED_OUT', 'the authorization server did not answer in time');
  // The host's own `fetch` does not go there, however often it is asked.
  if (reason === 'ADDRESS_REFUSED')
    return fail('TOKEN_ENDPOINT_INVALID', 'the token endpoint leads into a private network');
  const problem = status === undefined && reason !== undefined ? certificateReasons[reason] : undefined;
  if (problem !== undefined) {
    return new MailError(problem, `${host}: the certificate of the authorization server is not accepted.`, {
      phase: 'token',
      hint: httpsCertificateHints[problem],
      details: { host, reason },
    });
  }
  if (status === undefined) {
    return fail('TOKEN_ENDPOINT_UNREACHABLE', 'the authorization server cannot be reached', {
      reason,
    });
  }
  if (text === undefined && reason !== 'RESPONSE_TOO_LARGE') {
    return fail('TOKEN_ENDPOINT_UNREACHABLE', 'the connection broke in the middle of the answer', {
      reason,
    });
  }
  const body = parseObject(text);
  if (typeof body?.error === 'string') return oauthFailure(exchange, body as unknown as OAuthErrorBody);
  if (isLaterStatus(status)) {
    const delay = exchange.retryAfterMs;
    return fail('TOKEN_ENDPOINT_BUSY', `the authorization server answered ${status}`, {
      status,
      ...(delay !== undefined && { retryAfterMs: delay }),
    });
  }
  // Nothing is there, or something else, and will be the next time.
  if (!body && [404, 405, 410].includes(status))
    return fail('TOKEN_ENDPOINT_INVALID', `there is no token endpoint at that path (${status})`, { status });
  if (!body) return fail('TOKEN_RESPONSE_NOT_JSON', 'the answer is not JSON', { status });
  return fail('TOKEN_RESPONSE_INVALID', `the answer (${status}) holds no usable access token`, { status });
}

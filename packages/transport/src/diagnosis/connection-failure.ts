import {
  certificateReasons,
  type ErrorCode,
  isCertificateReason,
  MailError,
  type Phase,
} from '@flowpost/core';
import { namesOf } from '../smtp/certificate-details.ts';

const byReason: Readonly<Record<string, ErrorCode>> = {
  ENOTFOUND: 'HOST_NOT_FOUND',
  ENODATA: 'HOST_NOT_FOUND',
  EAI_NONAME: 'HOST_NOT_FOUND',
  EAI_AGAIN: 'DNS_UNAVAILABLE',
  EAI_FAIL: 'DNS_UNAVAILABLE',
  ESERVFAIL: 'DNS_UNAVAILABLE',
  ECONNREFUSED: 'CONNECTION_REFUSED',
  EHOSTUNREACH: 'CONNECTION_UNREACHABLE',
  ENETUNREACH: 'CONNECTION_UNREACHABLE',
  EADDRNOTAVAIL: 'CONNECTION_UNREACHABLE',
  ETIMEDOUT: 'CONNECTION_TIMED_OUT',
  UND_ERR_CONNECT_TIMEOUT: 'CONNECTION_TIMED_OUT',
  ...certificateReasons,
  ERR_SSL_WRONG_VERSION_NUMBER: 'TLS_WRONG_MODE',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'TLS_WRONG_MODE',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'TLS_PROTOCOL_TOO_OLD',
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'TLS_PROTOCOL_TOO_OLD',
  ERR_SSL_NO_PROTOCOLS_AVAILABLE: 'TLS_PROTOCOL_TOO_OLD',
};

/** Whether a TLS handshake failed, before which nothing is sent. */
export const isHandshakeFailure = (reason: string): boolean =>
  byReason[reason]?.startsWith('TLS_') ??
  (isCertificateReason(reason) || reason === 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE');

const messages: Partial<Record<ErrorCode, string>> = {
  HOST_NOT_FOUND: 'there is no such host',
  DNS_UNAVAILABLE: 'the name could not be looked up',
  CONNECTION_REFUSED: 'the connection was refused',
  CONNECTION_UNREACHABLE: 'the host cannot be reached',
  CONNECTION_TIMED_OUT: 'there was no answer in time',
  CONNECTION_LOST: 'the connection was lost',
  TLS_CERTIFICATE_EXPIRED: "the server's certificate has expired",
  TLS_CERTIFICATE_NOT_YET_VALID: "the server's certificate is not valid yet",
  TLS_CERTIFICATE_REVOKED: "the server's certificate has been revoked",
  TLS_CERTIFICATE_WRONG_HOST: "the server's certificate is for another host",
  TLS_CERTIFICATE_UNTRUSTED: "the server's certificate is not trusted",
  TLS_FINGERPRINT_MISMATCH: "the server's certificate is not the pinned one",
  TLS_WRONG_MODE: 'the server does not speak TLS from the first byte on this port',
  TLS_PROTOCOL_TOO_OLD: 'the server offers no acceptable version of TLS',
  TLS_FAILED: 'the TLS handshake failed',
};

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** The code a system or TLS error carries. */
function reasonOf(cause: unknown): string {
  const { code } = (cause ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : 'UNKNOWN';
}

/** An error about reaching a server, with its code's own sentence unless another is given. */
export function connectionError(
  code: ErrorCode,
  phase: Phase,
  { host, port }: Endpoint,
  options: {
    readonly reason?: string;
    readonly message?: string;
    readonly hint?: string | undefined;
    readonly details?: Record<string, unknown>;
    readonly cause?: unknown;
    readonly retryable?: boolean;
  } = {},
): MailError {
  const { reason, message = messages[code], hint, details, cause, retryable } = options;
  return new MailError(code, `${host}:${port}: ${message ?? 'the connection failed'}.`, {
    phase,
    details: { host, port, ...(reason !== undefined && { reason }), ...details },
    hint,
    cause,
    retryable,
  });
}

/** With several addresses Node reports all their failures at once (AggregateError); the first one stands for them. */
export function firstOf(cause: unknown): unknown {
  const { errors } = (cause ?? {}) as { readonly errors?: unknown };
  return Array.isArray(errors) && errors.length > 0 ? errors[0] : cause;
}

/**
 * What a failed lookup, connection or TLS handshake means, by the error's code and the phase it came in.
 *
 * @param hints what to do, where it is something else than elsewhere.
 */
export function connectionFailure(
  cause: unknown,
  phase: Phase,
  endpoint: Endpoint,
  hints: Partial<Readonly<Record<ErrorCode, string>>> = {},
): MailError {
  const one = firstOf(cause);
  const reason = reasonOf(one);
  const handshake = phase === 'tls' && reason.startsWith('ERR_');
  // What OpenSSL finds wrong with a certificate has no E in front, and some of it no name, such as a key that is too small.
  const verification = phase === 'tls' && reason !== 'UNKNOWN' && !reason.startsWith('E');
  const other = handshake ? 'TLS_FAILED' : verification ? 'TLS_CERTIFICATE_UNTRUSTED' : 'CONNECTION_LOST';
  const code = byReason[reason] ?? other;
  const names = code === 'TLS_CERTIFICATE_WRONG_HOST' ? certificateNames(one) : undefined;
  return connectionError(code, phase, endpoint, {
    reason,
    ...(names && { details: { certificateNames: names } }),
    hint: hints[code],
    cause,
  });
}

/** Without alternative names it is for its common name. */
function certificateNames(cause: unknown): string[] {
  const { subjectaltname, subject } =
    (cause as { cert?: { subjectaltname?: string; subject?: { CN?: unknown } } }).cert ?? {};
  const names = namesOf(subjectaltname);
  return names.length === 0 && typeof subject?.CN === 'string' ? [subject.CN] : names;
}

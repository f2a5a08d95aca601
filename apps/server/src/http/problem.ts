import type { ErrorCategory, MailErrorJson } from '@flowpost/core';

/** A failure as HTTP tells it (RFC 9457), with what our errors say besides. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  /** The id of the request, which the log has too. */
  readonly instance: string;
  readonly code: string;
  readonly category?: ErrorCategory | undefined;
  readonly phase?: string | undefined;
  readonly retryable: boolean;
  readonly inDoubt: boolean;
  readonly hint: string;
  readonly details?: unknown;
  readonly [extension: string]: unknown;
}

/** The status of an error by who has to do something about it. */
const byCategory: Readonly<Record<ErrorCategory, number>> = {
  input: 422,
  attachment: 422,
  configuration: 422,
  authentication: 502,
  tls: 502,
  network: 503,
  temporary: 503,
  refused: 502,
  'in-doubt': 502,
  cancelled: 409,
  internal: 500,
};

const byCode: Readonly<Record<string, number>> = {
  NODE_TYPE_UNKNOWN: 404,
  CONNECTION_NOT_FOUND: 404,
  DELIVERY_NOT_FOUND: 404,
  CONNECTION_NAME_TAKEN: 409,
  IDEMPOTENCY_CONFLICT: 409,
  DUPLICATE_CONFLICT: 409,
  DUPLICATE_PENDING: 409,
  DUPLICATE_IN_DOUBT: 409,
  DELIVERY_STATE_WRONG: 409,
  STORAGE_UNAVAILABLE: 503,
};

export const statusOf = ({ code, category }: Pick<MailErrorJson, 'code' | 'category'>): number =>
  byCode[code] ?? byCategory[category];

const titleOf = (code: string): string => {
  const words = code.toLowerCase().replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
};

/** @param more further members of the problem. */
export function problemOf(
  error: MailErrorJson,
  instance: string,
  more: Readonly<Record<string, unknown>> = {},
): Problem {
  const { code, category, phase, retryable, inDoubt, hint, message, details } = error;
  return {
    type: `urn:flowpost:error:${code}`,
    title: titleOf(code),
    status: statusOf(error),
    detail: message,
    instance: `urn:flowpost:request:${instance}`,
    ...{ code, category, phase, retryable, inDoubt, hint },
    ...(details && { details }),
    ...more,
  };
}

/** A problem of HTTP itself, before anything of ours was asked. */
export function httpProblem(
  status: number,
  code: string,
  detail: string,
  hint: string,
  instance: string,
): Problem {
  return {
    type: `urn:flowpost:error:${code}`,
    title: titleOf(code),
    status,
    detail,
    instance: `urn:flowpost:request:${instance}`,
    ...{ code, retryable: status === 408 || status === 429 || status === 503, inDoubt: false, hint },
  };
}

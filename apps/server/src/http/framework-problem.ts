import { httpProblem, type Problem } from './problem.ts';

interface Said {
  readonly code: string;
  readonly detail: string;
  readonly hint: string;
}

const byStatus: Readonly<Record<number, Said>> = {
  408: {
    code: 'REQUEST_TIMED_OUT',
    detail: 'The request did not come in time.',
    hint: 'Send it again.',
  },
  413: {
    code: 'REQUEST_TOO_LARGE',
    detail: 'The request is larger than this server takes.',
    hint: 'Send less, or attach files by URL.',
  },
  414: {
    code: 'URL_TOO_LONG',
    detail: 'A part of the address is longer than any id or name.',
    hint: 'The addresses are listed in /openapi.json.',
  },
  415: {
    code: 'MEDIA_TYPE_UNSUPPORTED',
    detail: 'The body is not JSON in UTF-8.',
    hint: 'Send JSON in UTF-8 with Content-Type: application/json.',
  },
  429: {
    code: 'TOO_MANY_REQUESTS',
    detail: 'There were too many requests within a minute.',
    hint: 'Wait as long as Retry-After says.',
  },
  431: {
    code: 'HEADERS_TOO_LARGE',
    detail: 'The header fields are larger than this server takes.',
    hint: 'Send fewer or shorter ones.',
  },
};

/** What the framework says about requests it does not even hand over. */
export function frameworkProblem(
  { statusCode = 500 }: { readonly statusCode?: number },
  id: string,
): Problem {
  const status = statusCode < 500 ? statusCode : 400;
  const { code, detail, hint } = byStatus[status] ?? {
    code: 'REQUEST_INVALID',
    detail: 'The request cannot be read.',
    hint: 'Send well-formed JSON in UTF-8.',
  };
  return httpProblem(status, code, detail, hint, id);
}

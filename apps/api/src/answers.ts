import { ErrorBody } from '@cdaas/contract/errors.ts';

/** For `schema.response`: the error body under each status that a route can answer with besides those of every route. */
export function errorAnswers<Status extends 400 | 404 | 409 | 413 | 415 | 422 | 503>(
  ...statuses: Status[]
): Record<Status | 401 | 403 | 429, typeof ErrorBody> {
  const all = [...statuses, 401, 403, 429] as const;
  return Object.fromEntries(all.map((status) => [status, ErrorBody])) as Record<
    Status | 401 | 403 | 429,
    typeof ErrorBody
  >;
}

/** A moment as clients in use expect it: empty before it has come. */
export function moment(at: Date | string | null | undefined): string {
  if (at === null || at === undefined) return '';
  return typeof at === 'string' ? at : at.toISOString();
}

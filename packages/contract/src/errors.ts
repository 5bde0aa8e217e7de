import { z } from 'zod';

/**
 * Every code that an answer of the API can carry, with its HTTP status. The words of the deployment file come from
 * spec/deployment-file.md §13; the rest belong to the API itself. Many file violations in one answer share the status
 * 422 (400 if the file could not be read at all), whatever the single code says here.
 */
export const errorCodes = {
  'request.unreadable': { status: 400, title: 'The request could not be read' },
  'request.invalid': { status: 422, title: 'The request was understood but is not valid' },
  'request.host': { status: 421, title: 'This server does not answer for the host in the request' },
  'not.found': { status: 404, title: 'There is no such thing, or it is not visible to the caller' },
  'media.unsupported': { status: 415, title: 'The media type is not supported here' },
  'body.tooLarge': { status: 413, title: 'The body is larger or deeper than allowed' },
  'rate.limited': { status: 429, title: 'Too many requests' },
  'dependency.unavailable': { status: 503, title: 'Something this server needs is not available' },
  'server.error': { status: 500, title: 'The server failed' },
  'not.implemented': { status: 501, title: 'This server does not do this' },
  'auth.missing': { status: 401, title: 'No valid credentials' },
  'auth.forbidden': { status: 403, title: 'The caller may not do this' },
  'idempotency.mismatch': { status: 422, title: 'The Idempotency-Key was used with another body' },
  'idempotency.running': { status: 409, title: 'The first request with this Idempotency-Key is still running' },
  'name.duplicate': { status: 409, title: 'The name is taken' },
  'cluster.refused': { status: 422, title: 'The cluster or its credentials are not accepted' },
  'cluster.unreachable': { status: 422, title: 'The cluster did not answer' },
  'cluster.permission': { status: 422, title: 'The cluster does not let these credentials do what is needed' },
  'cluster.limit': { status: 409, title: 'The tenant has as many clusters as it may have' },
  'cluster.inUse': { status: 409, title: 'Deployments to the cluster are in progress' },
  'cluster.changing': { status: 409, title: 'Others change the cluster at the same time' },
  'deployment.conflict': { status: 409, title: 'Another deployment of the application is in progress' },
  'deployment.finishing': { status: 409, title: 'The deployment is past the point of no return' },
  'deployment.final': { status: 409, title: 'The deployment has ended' },
  'object.claimed': { status: 409, title: 'Another deployment holds the object' },
  'step.state': { status: 409, title: 'The step is not waiting for this' },
  'step.unsupported': { status: 422, title: 'Not supported yet' },
  'step.choice': { status: 422, title: 'A step needs exactly one kind' },
  'file.syntax': { status: 400, title: 'The deployment file could not be read' },
  'field.required': { status: 422, title: 'A field is missing' },
  'field.type': { status: 422, title: 'A field has the wrong type' },
  'field.unknown': { status: 422, title: 'A field is not known' },
  'field.enum': { status: 422, title: 'A field has none of the allowed values' },
  'field.range': { status: 422, title: 'A field is out of range' },
  'account.unknown': { status: 422, title: 'The cluster account does not exist' },
  'ref.target': { status: 422, title: 'A target is named that does not exist' },
  'ref.strategy': { status: 422, title: 'A strategy is named that does not exist' },
  'ref.webhook': { status: 422, title: 'A webhook is named that does not exist' },
  'ref.query': { status: 422, title: 'A query is named that does not exist' },
  'ref.provider': { status: 422, title: 'A metric provider is named that does not exist' },
  'target.cycle': { status: 422, title: 'Targets depend on each other in a circle' },
  'strategy.choice': { status: 422, title: 'A strategy needs exactly one type' },
  'strategy.missing': { status: 422, title: 'A Deployment needs a strategy' },
  'pause.form': { status: 422, title: 'A pause has no valid form' },
  'roles.empty': { status: 422, title: 'A list of roles is empty' },
  'timeout.min': { status: 422, title: 'The timeout is too short' },
  'ttl.range': { status: 422, title: 'The time to live is out of range' },
  'weight.range': { status: 422, title: 'The weight is out of range' },
  'query.limits': { status: 422, title: 'The limits of a query are missing or contradict each other' },
  'manifest.choice': { status: 422, title: 'A manifest needs exactly one source' },
  'manifest.missing': { status: 422, title: 'A manifest was named but not sent' },
  'manifest.kind': { status: 422, title: 'The kind is not supported' },
  'manifest.object': { status: 422, title: 'Not a valid Kubernetes object' },
  'service.missing': { status: 422, title: 'A Service is missing' },
  'service.same': { status: 422, title: 'Two Services must differ' },
  'traffic.conflict': { status: 422, title: 'Traffic settings contradict each other' },
  'template.variable': { status: 422, title: 'A template variable is not known' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ErrorCode = keyof typeof errorCodes;

/** One thing that is wrong, in the user's words, and where: `path` is a JSON pointer into what was sent. */
export type Violation = {
  code: ErrorCode;
  message: string;
  path?: string | undefined;
  line?: number | undefined;
  column?: number | undefined;
  hint?: string | undefined;
  link?: string | undefined;
  /** What else a program may want to know: further keys of `metadata` in the answer. */
  metadata?: Readonly<Record<string, string>> | undefined;
};

export type ErrorDetails = Omit<Violation, 'code' | 'message'> & {
  /** Seconds after which the same request may succeed; sent as `Retry-After`. */
  retryAfterSeconds?: number | undefined;
  /** For the log only. */
  cause?: unknown;
};

/**
 * An expected failure, told to the caller. The message is for the user: product words, the name they sent, what to do.
 * Internals go into `cause`, which only the log sees.
 */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly violations: readonly [Violation, ...Violation[]];
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    const { cause, retryAfterSeconds, ...where } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'AppError';
    this.code = code;
    this.status = errorCodes[code].status;
    this.violations = [{ code, message, ...where }];
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** One error for all that is wrong with a readable (422) or unreadable (400) document. */
  static ofViolations(violations: readonly [Violation, ...Violation[]]): AppError {
    const unreadable = violations.some(({ code }) => errorCodes[code].status === 400);
    const error = new AppError(violations[0].code, violations[0].message);
    return Object.assign(error, { violations, status: unreadable ? 400 : 422 });
  }
}

export const ErrorBody = z
  .object({
    error_id: z.string().min(1).describe('Names this answer; the same as the request id in the logs.'),
    errors: z
      .array(
        z.object({
          code: z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]),
          message: z.string(),
          metadata: z.record(z.string(), z.string()).optional(),
        }),
      )
      .min(1),
  })
  .meta({ id: 'Error', description: 'The body of every answer that is not a success.' });
export type ErrorBody = z.infer<typeof ErrorBody>;

/** The body of an error answer; metadata are flat strings because old clients print them as `key=value`. */
export function toErrorBody(errorId: string, violations: readonly Violation[]): ErrorBody {
  return {
    error_id: errorId,
    errors: violations.map(({ code, message, path, line, column, hint, link, metadata: more }) => {
      const metadata: Record<string, string> = { ...more };
      if (path !== undefined) metadata.path = path;
      if (line !== undefined) metadata.line = String(line);
      if (column !== undefined) metadata.column = String(column);
      if (hint !== undefined) metadata.hint = hint;
      if (link !== undefined) metadata.link = link;
      return Object.keys(metadata).length === 0 ? { code, message } : { code, message, metadata };
    }),
  };
}

import { randomUUID } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { AppError, toErrorBody } from '@cdaas/contract/errors.ts';
import { isDatabaseUnavailable } from '@cdaas/control-plane/database/errors-db.ts';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RequestInvalid, violationsOf } from './violations.ts';

/**
 * Every failure leaves through here, in the one shape of spec/cli-wire-protocol.md §1.4. What a client can cause is
 * mapped to its 4xx; anything else is a fault of ours: logged in full, told as `server.error` without detail.
 */
export function installErrors(app: FastifyInstance): void {
  app.setErrorHandler((error: unknown, request, reply) => sendError(request, reply, toAppError(error, request)));
  app.setNotFoundHandler({ preHandler: app.rateLimit() }, (request, reply) =>
    sendError(request, reply, notFoundRoute(request)),
  );
}

/** Sends one error in the API's shape and logs it if a person must act. */
export function sendError(request: FastifyRequest, reply: FastifyReply, error: AppError): FastifyReply {
  if (error.status >= 500 && error.code === 'server.error') {
    request.log.error({ err: error.cause ?? error }, 'request failed');
  } else if (error.cause !== undefined) {
    request.log.info({ err: error.cause, code: error.code }, 'request refused');
  }
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', String(error.retryAfterSeconds));
  if (error.status === 401) reply.header('www-authenticate', 'Bearer');
  return reply
    .code(error.status)
    .header('x-request-id', request.id)
    .type('application/json; charset=utf-8')
    .serializer((body) => (typeof body === 'string' ? body : JSON.stringify(body)))
    .send(toErrorBody(request.id, error.violations));
}

/** What Fastify, its plugins, Prisma or our own code threw, as the error that the caller is told. */
export function toAppError(error: unknown, request: FastifyRequest): AppError {
  if (error instanceof AppError) return error;
  if (error instanceof RequestInvalid) {
    return AppError.ofViolations(violationsOf(error.issues, error.validationContext ?? 'body', request.body));
  }
  if (isFastifyError(error)) return fromFastify(error, request);
  if (isDatabaseUnavailable(error)) {
    return new AppError('dependency.unavailable', 'The database is not available. Try again in a few seconds.', {
      retryAfterSeconds: 5,
      cause: error,
    });
  }
  return serverError(error);
}

function serverError(cause: unknown): AppError {
  return new AppError('server.error', 'Something went wrong on the server. The error_id names it in the logs.', {
    cause,
  });
}

function notFoundRoute(request: FastifyRequest): AppError {
  return new AppError('not.found', `There is no ${request.method} ${pathOf(request.url)}.`, {
    hint: 'GET /openapi.json lists every route.',
  });
}

/** The path as sent, without its query (which may hold anything) and cut to a readable length. */
function pathOf(url: string): string {
  return url.split('?', 1)[0]?.slice(0, 200) ?? '';
}

function isFastifyError(error: unknown): error is FastifyError & { statusCode: number } {
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number';
}

function fromFastify(error: FastifyError & { statusCode: number }, request: FastifyRequest): AppError {
  switch (error.statusCode) {
    case 413: {
      const { bodyLimit } = request.routeOptions;
      const general = bodyLimit === request.server.initialConfig.bodyLimit;
      const message = `The body is larger than the ${bodyLimit} bytes that are accepted here.`;
      return new AppError('body.tooLarge', message, general ? { hint: 'BODY_LIMIT_BYTES sets the limit.' } : {});
    }
    case 415:
      return new AppError('media.unsupported', 'The Content-Type of the request is not supported here.', {
        hint: 'Send application/json; POST /pipelines/kubernetes also takes application/yaml.',
      });
    case 429:
      return new AppError('rate.limited', 'Too many requests. Wait before sending more.', {
        retryAfterSeconds: retryAfterOf(error),
      });
    default:
      if (error.statusCode >= 400 && error.statusCode < 500) {
        return new AppError('request.unreadable', `The request could not be read: ${plain(error.message)}`);
      }
      return serverError(error);
  }
}

function retryAfterOf(error: Error): number {
  return 'retryAfterSeconds' in error && typeof error.retryAfterSeconds === 'number' ? error.retryAfterSeconds : 1;
}

/** Parsers quote what they choke on; what was sent may hold a secret and is not repeated. */
function plain(message: string): string {
  return message.replace(/(["'`]).*\1/gs, '…').slice(0, 200);
}

/** What is not even HTTP never reaches a route; it is answered on the socket. */
export function answerUnreadable(socket: Duplex): void {
  if (!socket.writable || socket.destroyed) return;
  const message = 'The request is not well-formed HTTP, or its headers are too large.';
  const body = JSON.stringify(toErrorBody(randomUUID(), [{ code: 'request.unreadable', message }]));
  const head = [
    'HTTP/1.1 400 Bad Request',
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

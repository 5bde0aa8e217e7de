import type { FastifyInstance, FastifyRequest } from 'fastify';

/** The caller's own id if it is plain, so that one id follows a request through several systems. */
export function requestIdOf(header: string | string[] | undefined, generate: () => string): string {
  return typeof header === 'string' && /^[A-Za-z0-9._-]{8,128}$/.test(header) ? header : generate();
}

/** One line a request: the route's pattern, never the URL, which may carry ids and secrets of others. */
export function installRequestLog(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  app.addHook('onResponse', async (request, reply) => {
    const fields = {
      method: request.method,
      route: routeOf(request),
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      orgId: request.claims?.orgId,
      tenantId: request.claims?.tenantId,
    };
    if (request.routeOptions.config.quiet === true) request.log.debug(fields, 'request');
    else request.log.info(fields, 'request');
  });
}

/** The route's pattern, for logs and metrics; unknown routes share one name. */
export function routeOf(request: FastifyRequest): string {
  return request.is404 ? 'unknown' : (request.routeOptions.url ?? 'unknown');
}

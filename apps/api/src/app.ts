import { randomUUID } from 'node:crypto';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import { serializerCompiler } from 'fastify-type-provider-zod';
import type { ApiDeps } from './deps.ts';
import { installAuth } from './plugins/auth.ts';
import { installBodies } from './plugins/bodies.ts';
import { answerUnreadable, installErrors, sendError, toAppError } from './plugins/errors.ts';
import { installRequestLog, requestIdOf } from './plugins/logging.ts';
import { installMetrics } from './plugins/metrics.ts';
import { installOpenApi } from './plugins/openapi.ts';
import { installSecurity } from './plugins/security.ts';
import { validatorCompiler } from './plugins/violations.ts';
import { clusterRoutes } from './routes/clusters.ts';
import { deploymentRoutes } from './routes/deployments.ts';
import { eventRoutes } from './routes/events.ts';
import { graphqlRoutes } from './routes/graphql.ts';
import { pipelineRoutes } from './routes/pipelines.ts';
import { sandboxClusterRoutes } from './routes/sandbox-clusters.ts';
import { systemRoutes } from './routes/system.ts';
import { tokenRoutes } from './routes/tokens.ts';

/**
 * The API as a Fastify app that does not listen yet. Every dependency comes from outside, so that tests can call it by
 * `inject`. Order matters: hooks run in the order in which they are installed.
 */
export async function buildApp(deps: ApiDeps): Promise<FastifyInstance> {
  const { settings } = deps;
  const app = Fastify({
    loggerInstance: deps.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: (request) => requestIdOf(request.headers['x-request-id'], randomUUID),
    bodyLimit: settings.bodyLimitBytes,
    trustProxy: settings.trustedProxies.length === 0 ? false : [...settings.trustedProxies],
    exposeHeadRoutes: false,
    // The body of a request must have arrived by then; answers may take longer.
    requestTimeout: 60_000,
    keepAliveTimeout: 72_000,
    forceCloseConnections: 'idle',
    // What arrives while closing is still answered, with `Connection: close`.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 500 },
    clientErrorHandler: (_error, socket) => answerUnreadable(socket),
    frameworkErrors: (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
      sendError(request, reply, toAppError(error, request));
    },
  });
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);

  installRequestLog(app);
  installMetrics(app, deps.metrics);
  installBodies(app, { depthLimit: settings.bodyDepthLimit });
  installAuth(app, deps);
  await installSecurity(app, settings);
  installErrors(app);
  await installOpenApi(app, settings.publicUrl);

  await app.register(systemRoutes, deps);
  await app.register(tokenRoutes, deps);
  await app.register(clusterRoutes);
  await app.register(pipelineRoutes, deps);
  await app.register(eventRoutes, deps);
  await app.register(deploymentRoutes);
  await app.register(graphqlRoutes);
  await app.register(sandboxClusterRoutes);
  return app;
}

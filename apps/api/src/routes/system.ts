import { AppError } from '@cdaas/contract/errors.ts';
import { HealthAnswer } from '@cdaas/contract/health.ts';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { ApiDeps } from '../deps.ts';

/** Longer than this and an orchestrator should send requests elsewhere. */
const readyTimeoutMs = 2_000;

/** Whether the process lives, whether it can serve, and what it serves. */
export const systemRoutes: FastifyPluginAsyncZod<Pick<ApiDeps, 'db'>> = async (app, { db }) => {
  const probe = { permission: 'public', anyHost: true, quiet: true } as const;

  app.get(
    '/healthz',
    {
      config: { ...probe, rateLimit: false },
      schema: { tags: ['system'], summary: 'The process lives.', response: { 200: HealthAnswer } },
    },
    async () => ({ status: 'ok' as const }),
  );

  app.get(
    '/readyz',
    {
      config: { ...probe, rateLimit: false },
      schema: {
        tags: ['system'],
        summary: 'Requests can be served: the database answers.',
        response: { 200: HealthAnswer },
      },
    },
    async () => {
      const late = new Promise<'late'>((resolve) => setTimeout(resolve, readyTimeoutMs, 'late').unref());
      const failure = await Promise.race([
        db.prisma.$queryRaw`select 1`.then(
          () => null,
          (cause: unknown) => ({ cause }),
        ),
        late,
      ]);
      if (failure === null) return { status: 'ok' as const };
      throw new AppError('dependency.unavailable', 'The database does not answer.', {
        retryAfterSeconds: 5,
        cause: failure === 'late' ? undefined : failure.cause,
      });
    },
  );

  app.get(
    '/openapi.json',
    { config: { permission: 'public' }, schema: { tags: ['system'], summary: 'This description of the API.' } },
    async (_request, reply) => reply.type('application/json; charset=utf-8').send(JSON.stringify(app.swagger())),
  );
};

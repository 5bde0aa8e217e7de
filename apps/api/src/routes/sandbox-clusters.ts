import { AppError, ErrorBody } from '@cdaas/contract/errors.ts';
import { SandboxClusterParams } from '@cdaas/contract/sandbox-clusters.ts';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { errorAnswers } from '../answers.ts';

/**
 * Temporary clusters that the hosted product lends (spec/cli-wire-protocol.md §5). This server has none to lend, and says
 * so by name instead of 404, which clients in use would take for an older server.
 */
export const sandboxClusterRoutes: FastifyPluginAsyncZod = async (app) => {
  const schema = {
    tags: ['clusters'],
    summary: 'Temporary clusters are not lent by this server.',
    response: { 501: ErrorBody, ...errorAnswers() },
  };
  app.post('/sandbox/clusters', { config: { permission: 'cluster.manage' }, schema }, async () => refuse());
  app.get(
    '/sandbox/clusters/:id',
    { config: { permission: 'cluster.list' }, schema: { ...schema, params: SandboxClusterParams } },
    async () => refuse(),
  );
};

function refuse(): never {
  throw new AppError('not.implemented', 'This server lends no temporary clusters.', {
    hint: 'Register a cluster of your own with POST /clusters.',
  });
}

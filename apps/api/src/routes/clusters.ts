import {
  ClusterList,
  ClusterParams,
  ClusterView,
  MeshConfirmation,
  RegisterCluster,
} from '@cdaas/contract/clusters.ts';
import {
  deleteCluster,
  getCluster,
  listClusters,
  type RegisteredCluster,
  registerCluster,
} from '@cdaas/control-plane/clusters.ts';
import type { CallerContext } from '@cdaas/control-plane/principals.ts';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { errorAnswers, moment } from '../answers.ts';
import { callerOf } from '../plugins/auth.ts';

/** Clusters of the tenant: the accounts that deployment files name. */
export const clusterRoutes: FastifyPluginAsyncZod = async (app) => {
  app.post(
    '/clusters',
    {
      config: { permission: 'cluster.manage' },
      schema: {
        tags: ['clusters'],
        summary: 'Register a cluster: it is asked who it is before anything is stored.',
        body: RegisterCluster,
        response: { 201: ClusterView, ...errorAnswers(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const ctx = callerOf(request);
      const cluster = await registerCluster(ctx, request.body);
      return reply
        .code(201)
        .header('location', `/clusters/${encodeURIComponent(cluster.name)}`)
        .send(viewOf(ctx, cluster));
    },
  );

  app.get(
    '/clusters',
    {
      config: { permission: 'cluster.list' },
      schema: { tags: ['clusters'], summary: 'Clusters by name.', response: { 200: ClusterList, ...errorAnswers() } },
    },
    async (request) => {
      const ctx = callerOf(request);
      return { clusters: (await listClusters(ctx)).map((cluster) => viewOf(ctx, cluster)) };
    },
  );

  app.get(
    '/clusters/:name',
    {
      config: { permission: 'cluster.list' },
      schema: {
        tags: ['clusters'],
        summary: 'One cluster, without its credential.',
        params: ClusterParams,
        response: { 200: ClusterView, ...errorAnswers(404) },
      },
    },
    async (request) => {
      const ctx = callerOf(request);
      return viewOf(ctx, await getCluster(ctx, request.params));
    },
  );

  app.delete(
    '/clusters/:name',
    {
      config: { permission: 'cluster.manage' },
      schema: {
        tags: ['clusters'],
        summary: 'Forget a cluster and its credential. Refused while deployments to it run.',
        params: ClusterParams,
        response: { 204: z.null().describe('Done.'), ...errorAnswers(404, 409) },
      },
    },
    async (request, reply) => {
      await deleteCluster(callerOf(request), request.params);
      return reply.code(204).send(null);
    },
  );
};

/** Who may only deploy sees names, to choose a target by. */
function viewOf(ctx: CallerContext, cluster: RegisteredCluster): ClusterView {
  if (!ctx.permissions.has('cluster.manage')) return { name: cluster.name };
  const { name, server, namespaces, clusterScopedKinds } = cluster;
  return {
    name,
    server,
    version: cluster.kubernetesVersion,
    namespaces,
    clusterScopedKinds,
    meshConfirmation: MeshConfirmation.parse(cluster.meshConfirmation),
    trafficSplitVersion: cluster.splitVersion,
    createdAtIso8601: moment(cluster.createdAt),
  };
}

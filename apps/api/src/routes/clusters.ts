import {
  ChangeCluster,
  ClusterList,
  ClusterParams,
  ClusterView,
  NoFields,
  RbacQuery,
  RegisterCluster,
} from '@cdaas/contract/clusters.ts';
import { changeCluster, verifyCluster } from '@cdaas/control-plane/clusters/change.ts';
import { rbacWanted, renderRbac } from '@cdaas/control-plane/clusters/rbac-manifest.ts';
import { deleteCluster, getCluster, listClusters, registerCluster } from '@cdaas/control-plane/clusters.ts';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { errorAnswers } from '../answers.ts';
import { callerOf } from '../plugins/auth.ts';
import { listedClusterView, shownClusterView } from './cluster-views.ts';

/** Clusters of the tenant: the accounts that deployment files name. */
export const clusterRoutes: FastifyPluginAsyncZod = async (app) => {
  app.post(
    '/clusters',
    {
      config: { permission: 'cluster.manage' },
      schema: {
        tags: ['clusters'],
        summary:
          'Register a cluster: it is asked who it is and for every right that is needed before anything is stored.',
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
        .send(shownClusterView(ctx, cluster));
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
      return { clusters: (await listClusters(ctx)).map((cluster) => listedClusterView(ctx, cluster)) };
    },
  );

  app.get(
    '/clusters/rbac.yaml',
    {
      config: { permission: 'public' },
      schema: {
        tags: ['clusters'],
        summary: 'The least RBAC that a credential needs to be registered, for kubectl apply.',
        querystring: RbacQuery,
        response: {
          200: { description: 'YAML.', content: { 'application/yaml': { schema: z.string() } } },
          ...errorAnswers(422),
        },
      },
    },
    async (request, reply) => reply.type('application/yaml; charset=utf-8').send(renderRbac(rbacWanted(request.query))),
  );

  app.get(
    '/clusters/:name',
    {
      config: { permission: 'cluster.list' },
      schema: {
        tags: ['clusters'],
        summary: 'One cluster with its health, without its credential.',
        params: ClusterParams,
        response: { 200: ClusterView, ...errorAnswers(404) },
      },
    },
    async (request) => {
      const ctx = callerOf(request);
      return shownClusterView(ctx, await getCluster(ctx, request.params));
    },
  );

  app.patch(
    '/clusters/:name',
    {
      config: { permission: 'cluster.manage' },
      schema: {
        tags: ['clusters'],
        summary: 'Change a registration, its credential for example, while deployments run. It is verified before.',
        params: ClusterParams,
        body: ChangeCluster,
        response: { 200: ClusterView, ...errorAnswers(400, 404, 409, 413, 415, 422, 503) },
      },
    },
    async (request) => {
      const ctx = callerOf(request);
      return shownClusterView(ctx, await changeCluster(ctx, { ...request.params, change: request.body }));
    },
  );

  app.post(
    '/clusters/:name/verify',
    {
      config: { permission: 'cluster.manage' },
      schema: {
        tags: ['clusters'],
        summary: 'Ask a cluster again all that registration asks; answers as that would.',
        params: ClusterParams,
        body: NoFields,
        response: { 200: ClusterView, ...errorAnswers(400, 404, 409, 413, 415, 422, 503) },
      },
    },
    async (request) => {
      const ctx = callerOf(request);
      return shownClusterView(ctx, await verifyCluster(ctx, request.params));
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

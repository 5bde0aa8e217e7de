import type { RegisterCluster } from '@cdaas/contract/clusters.ts';
import { AppError } from '@cdaas/contract/errors.ts';
import { shorten } from '@cdaas/pipeline/file/words.ts';
import { surveyCluster } from './cluster-survey.ts';
import type { Context } from './context.ts';
import { scoped } from './db.ts';
import { isUniqueViolation } from './errors-db.ts';
import { newId } from './ids.ts';
import { parseClusterAccess } from './kubeconfig.ts';
import { pipelineLink } from './links.ts';
import type { CallerContext } from './principals.ts';

/** A registered cluster as the API may tell of it: everything but the credential. */
export type RegisteredCluster = {
  name: string;
  server: string;
  kubernetesVersion: string;
  namespaces: string[];
  clusterScopedKinds: string[];
  meshConfirmation: string;
  /** API version of the TrafficSplits that it served when it was registered. */
  splitVersion: string | null;
  createdAt: Date;
};

const visible = {
  name: true,
  server: true,
  kubernetesVersion: true,
  namespaces: true,
  clusterScopedKinds: true,
  meshConfirmation: true,
  splitVersion: true,
  createdAt: true,
} as const;

/**
 * Registers a cluster as an account of the tenant: reads the access out of the input, asks the cluster, stores. The
 * credential is encrypted and never comes out again.
 *
 * @throws AppError name.duplicate, cluster.refused, cluster.unreachable, cluster.permission; nothing is stored then
 */
export async function registerCluster(ctx: CallerContext, input: RegisterCluster): Promise<RegisteredCluster> {
  const { name, namespaces = [], clusterScopedKinds, meshConfirmation, ...rest } = input;
  const parsed = parseClusterAccess(rest);
  if (!parsed.ok) {
    const [first, ...others] = parsed.problems;
    if (first === undefined) throw new Error('a refused cluster access without a reason');
    throw AppError.ofViolations([first, ...others]);
  }
  if ((await findCluster(ctx, name)) !== null) throw nameTaken(name);
  const { access } = parsed;
  const survey = await surveyCluster(access, namespaces, ctx.outbound);

  const id = newId(ctx.clock.now());
  const { organisationId, tenantId } = ctx.scope;
  const at = { table: 'cluster', row: id, field: 'credential' };
  const credential = await ctx.vault.encryptJson(organisationId, at, access.credential);
  try {
    return await scoped(ctx.db, ctx.scope, (tx) =>
      tx.cluster.create({
        data: {
          id,
          organisationId,
          tenantId,
          name,
          server: access.server,
          caData: access.caData,
          clusterUid: survey.clusterUid,
          credential,
          namespaces: [...new Set(namespaces)],
          ...(clusterScopedKinds === undefined ? {} : { clusterScopedKinds: [...new Set(clusterScopedKinds)] }),
          meshConfirmation: meshConfirmation ?? survey.meshConfirmation,
          kubernetesVersion: survey.version,
          splitVersion: survey.splitVersion,
          verifiedAt: ctx.clock.now(),
        },
        select: visible,
      }),
    );
  } catch (error) {
    if (isUniqueViolation(error)) throw nameTaken(name);
    throw error;
  }
}

export function listClusters(ctx: Context): Promise<RegisteredCluster[]> {
  const { tenantId } = ctx.scope;
  return scoped(ctx.db, ctx.scope, (tx) =>
    tx.cluster.findMany({ where: { tenantId }, orderBy: { name: 'asc' }, select: visible }),
  );
}

/** @throws AppError not.found */
export async function getCluster(ctx: Context, { name }: { name: string }): Promise<RegisteredCluster> {
  const found = await findCluster(ctx, name);
  if (found === null) throw noCluster(name);
  return found;
}

/**
 * Forgets a cluster and its credential. What runs in it is not touched.
 *
 * @throws AppError not.found; cluster.inUse while a deployment to it is not done, with links to those
 */
export async function deleteCluster(ctx: CallerContext, { name }: { name: string }): Promise<void> {
  const { tenantId } = ctx.scope;
  await scoped(ctx.db, ctx.scope, async (tx) => {
    // Starting a pipeline locks the same row, so that no deployment can begin between the look and the deletion.
    const [locked] = await tx.$queryRaw<{ id: string }[]>`
      select id::text from cluster where tenant_id = ${tenantId}::uuid and name = ${name} for update`;
    if (locked === undefined) throw noCluster(name);
    const running = await tx.deployment.findMany({
      where: { clusterId: locked.id, done: false },
      select: { pipelineId: true },
      orderBy: { id: 'asc' },
      take: 20,
    });
    if (running.length > 0) {
      const links = [...new Set(running.map(({ pipelineId }) => pipelineLink(ctx, pipelineId)))];
      throw new AppError('cluster.inUse', `Deployments to cluster "${name}" are in progress: ${links.join(' ')}`, {
        hint: 'Cancel them or wait until they have ended.',
        link: links[0],
      });
    }
    await tx.cluster.delete({ where: { id: locked.id } });
  });
}

function findCluster(ctx: Context, name: string): Promise<RegisteredCluster | null> {
  const { tenantId } = ctx.scope;
  return scoped(ctx.db, ctx.scope, (tx) => tx.cluster.findFirst({ where: { tenantId, name }, select: visible }));
}

function noCluster(name: string): AppError {
  return new AppError('not.found', `There is no cluster "${shorten(name)}".`, {
    hint: 'GET /clusters lists them.',
  });
}

function nameTaken(name: string): AppError {
  return new AppError('name.duplicate', `There is already a cluster "${name}".`, {
    path: '/name',
    hint: 'Choose another name, or delete that cluster first.',
  });
}

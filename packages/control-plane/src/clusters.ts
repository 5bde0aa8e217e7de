import type { RegisterCluster } from '@cdaas/contract/clusters.ts';
import { AppError } from '@cdaas/contract/errors.ts';
import { type ClusterAccess, type ParsedClusterAccess, parseClusterAccess } from './clusters/kubeconfig.ts';
import {
  accessColumns,
  lockCluster,
  noCluster,
  type RegisteredCluster,
  refuseWhileInUse,
  surveyColumns,
  visibleCluster,
} from './clusters/rows.ts';
import { surveyCluster } from './clusters/survey.ts';
import type { Context } from './context.ts';
import { scoped, type Transaction } from './database/db.ts';
import { isUniqueViolation } from './database/errors-db.ts';
import { newId } from './ids.ts';
import type { CallerContext } from './principals.ts';

/**
 * Registers a cluster as an account of the tenant: reads the access out of the input, asks the cluster, stores. The
 * credential is encrypted and never comes out again.
 *
 * @throws AppError name.duplicate, cluster.limit, cluster.refused, cluster.unreachable, cluster.permission; nothing is stored then
 */
export async function registerCluster(ctx: CallerContext, input: RegisterCluster): Promise<RegisteredCluster> {
  const { name, namespaces = [], clusterScopedKinds = ['Namespace'], meshConfirmation = 'detected', ...rest } = input;
  const access = accessOf(parseClusterAccess(rest));
  if ((await findCluster(ctx, name)) !== null) throw nameTaken(name);
  await scoped(ctx.db, ctx.scope, (tx) => refuseBeyondLimit(tx, ctx));
  const limits = { namespaces: [...new Set(namespaces)], clusterScopedKinds: [...new Set(clusterScopedKinds)] };
  const survey = await surveyCluster({ access, ...limits }, { ...ctx, now: ctx.clock.now() });

  const id = newId(ctx.clock.now());
  const { organisationId, tenantId } = ctx.scope;
  const data = {
    id,
    organisationId,
    tenantId,
    name,
    ...limits,
    clusterUid: survey.identity.clusterUid,
    meshSetting: meshConfirmation,
    ...(await accessColumns(ctx, id, access)),
    ...surveyColumns(survey, access, meshConfirmation),
    verifiedAt: ctx.clock.now(),
  };
  try {
    return await scoped(ctx.db, ctx.scope, async (tx) => {
      // Others may have registered meanwhile; of those that do so now each counts the one before.
      await tx.$executeRaw`select pg_advisory_xact_lock(hashtextextended(${`clusters of ${tenantId}`}, 0))`;
      await refuseBeyondLimit(tx, ctx);
      return tx.cluster.create({ data, select: visibleCluster });
    });
  } catch (error) {
    if (isUniqueViolation(error)) throw nameTaken(name);
    throw error;
  }
}

/** @throws AppError with every reason why an access is refused */
export function accessOf(parsed: ParsedClusterAccess): ClusterAccess {
  if (parsed.ok) return parsed.access;
  const [first, ...others] = parsed.problems;
  if (first === undefined) throw new Error('a refused cluster access without a reason');
  throw AppError.ofViolations([first, ...others]);
}

export function listClusters(ctx: Context): Promise<RegisteredCluster[]> {
  const { tenantId } = ctx.scope;
  return scoped(ctx.db, ctx.scope, (tx) =>
    tx.cluster.findMany({ where: { tenantId }, orderBy: { name: 'asc' }, select: visibleCluster }),
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
  await scoped(ctx.db, ctx.scope, async (tx) => {
    const { id } = await lockCluster(tx, ctx, name);
    await refuseWhileInUse(tx, ctx, { clusterId: id }, `Deployments to cluster "${name}" are in progress`);
    await tx.cluster.delete({ where: { id }, select: { id: true } });
  });
}

function findCluster(ctx: Context, name: string): Promise<RegisteredCluster | null> {
  const { tenantId } = ctx.scope;
  return scoped(ctx.db, ctx.scope, (tx) => tx.cluster.findFirst({ where: { tenantId, name }, select: visibleCluster }));
}

/** Workers ask every cluster all the time whether it answers, so that there must be an end to them. */
async function refuseBeyondLimit(tx: Transaction, ctx: CallerContext): Promise<void> {
  const { clustersPerTenant, scope } = ctx;
  if ((await tx.cluster.count({ where: { tenantId: scope.tenantId } })) < clustersPerTenant) return;
  throw new AppError('cluster.limit', `This tenant has ${clustersPerTenant} clusters, and may not have more.`, {
    hint: 'Delete one that is not used any more, or have whoever operates this server raise CLUSTERS_PER_TENANT.',
  });
}

function nameTaken(name: string): AppError {
  return new AppError('name.duplicate', `There is already a cluster "${name}".`, {
    path: '/name',
    hint: 'Choose another name, or change that cluster (PATCH), or delete it first.',
  });
}

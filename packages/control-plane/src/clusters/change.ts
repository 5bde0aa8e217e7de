import { isDeepStrictEqual } from 'node:util';
import { type ChangeCluster, MeshConfirmation } from '@cdaas/contract/clusters.ts';
import { AppError } from '@cdaas/contract/errors.ts';
import { accessOf } from '../clusters.ts';
import { scoped, type Transaction } from '../database/db.ts';
import type { Cluster } from '../generated/client.ts';
import type { CallerContext } from '../principals.ts';
import { readCredential } from './access.ts';
import type { ClusterIdentity } from './identity.ts';
import { type ClusterAccess, parseClusterAccess } from './kubeconfig.ts';
import {
  accessColumns,
  lockCluster,
  type MeshSetting,
  noCluster,
  type RegisteredCluster,
  refuseWhileInUse,
  surveyColumns,
  visibleCluster,
} from './rows.ts';
import { surveyCluster } from './survey.ts';

/*
 * Changes to a registration while deployments to the cluster run. Nothing is stored before the cluster has been asked
 * everything that registration asks, under what is to hold from now on. Workers load the registration again within
 * seconds (drivers/kube-clients.ts), or at once where the old credential is refused, and go on with it.
 */

/** How often a change is begun anew because another one of the same cluster came first. */
const tries = 3;

/**
 * Changes how a cluster is reached, what may be deployed there, or how weights are confirmed. What is absent stays.
 *
 * @throws AppError not.found; cluster.inUse where a deployment in progress is in a namespace that would be closed;
 *   cluster.refused, also for a credential that leads to another cluster; cluster.unreachable, cluster.permission;
 *   cluster.changing where others keep changing it at the same time.
 *   Nothing is changed then.
 */
export async function changeCluster(
  ctx: CallerContext,
  { name, change }: { name: string; change: ChangeCluster },
): Promise<RegisteredCluster> {
  const { namespaces, clusterScopedKinds, meshConfirmation, ...how } = change;
  const isSurveyed =
    Object.keys(how).length > 0 ||
    namespaces !== undefined ||
    clusterScopedKinds !== undefined ||
    meshConfirmation === 'detected';
  return retried(ctx, name, async (row) => {
    const given = accessIn(how, row);
    const limits = {
      namespaces: namespaces === undefined ? row.namespaces : [...new Set(namespaces)],
      clusterScopedKinds: clusterScopedKinds === undefined ? row.clusterScopedKinds : [...new Set(clusterScopedKinds)],
    };
    const meshSetting = meshConfirmation ?? settingOf(row);
    const surveyed = isSurveyed ? await surveyAs(ctx, row, { given, meshSetting, ...limits }) : {};
    const confirmed = meshSetting === 'detected' ? {} : { meshConfirmation: meshSetting };
    const access = given === undefined ? {} : await accessColumns(ctx, row.id, given);
    return { ...limits, meshSetting, ...confirmed, ...surveyed, ...access };
  });
}

/**
 * Asks a cluster again all that registration asks, and stores what it answers.
 *
 * @throws AppError not.found, cluster.refused, cluster.unreachable, cluster.permission, cluster.changing; nothing is changed then
 */
export async function verifyCluster(ctx: CallerContext, { name }: { name: string }): Promise<RegisteredCluster> {
  return retried(ctx, name, (row) => {
    const { namespaces, clusterScopedKinds } = row;
    return surveyAs(ctx, row, { given: undefined, meshSetting: settingOf(row), namespaces, clusterScopedKinds });
  });
}

type Columns = Partial<Omit<Cluster, 'id' | 'organisationId' | 'tenantId' | 'name' | 'findings'>> & {
  findings?: object;
};

/** Works out new columns from a row, without a lock because that takes the cluster's time, and stores them if it is still that row. */
async function retried(
  ctx: CallerContext,
  name: string,
  work: (row: Cluster) => Promise<Columns>,
): Promise<RegisteredCluster> {
  const { tenantId } = ctx.scope;
  for (let left = tries; left > 0; left -= 1) {
    const row = await scoped(ctx.db, ctx.scope, (tx) => tx.cluster.findFirst({ where: { tenantId, name } }));
    if (row === null) throw noCluster(name);
    const columns = await work(row);
    const stored = await scoped(ctx.db, ctx.scope, (tx) => store(tx, ctx, row, columns));
    if (stored !== null) return stored;
  }
  throw new AppError('cluster.changing', `Cluster "${name}" is being changed by others at the same time.`, {
    hint: 'Nothing was changed. Try again.',
    retryAfterSeconds: 5,
  });
}

async function store(
  tx: Transaction,
  ctx: CallerContext,
  row: Cluster,
  columns: Columns,
): Promise<RegisteredCluster | null> {
  const { id, accessVersion } = await lockCluster(tx, ctx, row.name);
  if (id !== row.id || accessVersion !== row.accessVersion) return null;
  const { namespaces = row.namespaces, clusterUid, ...rest } = columns;
  if (namespaces.length > 0) {
    const words = `Deployments to namespaces of cluster "${row.name}" that would be closed are in progress`;
    await refuseWhileInUse(tx, ctx, { clusterId: id, namespace: { notIn: namespaces } }, words);
  }
  const adopted = clusterUid === undefined ? {} : await adoptedUid(tx, row, clusterUid);
  const data = { ...rest, namespaces, ...adopted };
  return tx.cluster.update({
    where: { id },
    data: { ...data, accessVersion: isChange(row, data) ? accessVersion + 1 : accessVersion },
    select: visibleCluster,
  });
}

/**
 * One that was registered by its address goes by the uid of its namespace kube-system once the credential may read that, as
 * others who register the cluster do. Not while a deployment is in progress: its claims are under the id of before, and the
 * next one must meet them. None can begin meanwhile, since the row is locked.
 */
async function adoptedUid(tx: Transaction, row: Cluster, clusterUid: string): Promise<{ clusterUid?: string }> {
  if (clusterUid === row.clusterUid) return {};
  const running = await tx.deployment.count({ where: { clusterId: row.id, done: false } });
  return running > 0 ? {} : { clusterUid };
}

/** What workers load, and what a change that began before must not undo. What was merely found out again counts as neither. */
const counted = [
  'clusterUid',
  'server',
  'caData',
  'credential',
  'namespaces',
  'clusterScopedKinds',
  'meshSetting',
  'meshConfirmation',
] as const;

function isChange(row: Cluster, columns: Columns): boolean {
  return counted.some((key) => columns[key] !== undefined && !isDeepStrictEqual(columns[key], row[key]));
}

/** The access that a change gives, completed by what is registered; undefined where it gives none. */
function accessIn(
  how: Omit<ChangeCluster, 'namespaces' | 'clusterScopedKinds' | 'meshConfirmation'>,
  row: Cluster,
): ClusterAccess | undefined {
  if (Object.keys(how).length === 0) return undefined;
  if (how.kubeconfig !== undefined || how.context !== undefined) return accessOf(parseClusterAccess(how));
  const { server, caData, ...credential } = how;
  if (Object.keys(credential).length === 0) {
    // Or whoever may change a registration could have the stored credential, which nobody may read, sent to himself.
    throw new AppError(
      'cluster.refused',
      'The stored credential is not sent to another address, nor trusted to another CA.',
      {
        path: server === undefined ? '/caData' : '/server',
        hint: 'Give the credential again together with server or caData.',
      },
    );
  }
  return accessOf(parseClusterAccess({ server: server ?? row.server, caData: caData ?? row.caData, ...credential }));
}

async function surveyAs(
  ctx: CallerContext,
  row: Cluster,
  as: {
    given: ClusterAccess | undefined;
    meshSetting: MeshSetting;
    namespaces: readonly string[];
    clusterScopedKinds: readonly string[];
  },
) {
  const { server, caData } = row;
  const access = as.given ?? { server, caData, credential: await readCredential(ctx.vault, row) };
  const now = ctx.clock.now();
  const survey = await surveyCluster({ ...as, access }, { ...ctx, now });
  refuseOther(row, survey.identity);
  const { clusterUid } = survey.identity;
  return { ...surveyColumns(survey, access, as.meshSetting), clusterUid, verifiedAt: now };
}

/** Deployments in progress would go on in another cluster, with objects that they never made. */
function refuseOther(row: Cluster, identity: ClusterIdentity): void {
  if (row.clusterUid === identity.clusterUid || row.clusterUid === identity.uidByAddress) return;
  if (!identity.isByUid) {
    throw new AppError(
      'cluster.permission',
      'The credential may not get namespaces kube-system, whose uid shows that this is still the same cluster.',
      { hint: 'Give it that right, as the RBAC at GET /clusters/rbac.yaml does.', metadata: kubeSystem },
    );
  }
  throw new AppError('cluster.refused', `This leads to another cluster than the one registered as "${row.name}".`, {
    path: '/server',
    hint: 'Its CA or the uid of its namespace kube-system is another. Register it under a name of its own, or delete this one first.',
  });
}

const kubeSystem = { verb: 'get', resource: 'namespaces', name: 'kube-system' };

function settingOf({ meshSetting, meshConfirmation }: Cluster): MeshSetting {
  const setting = meshSetting ?? meshConfirmation;
  return setting === 'detected' ? setting : MeshConfirmation.parse(setting);
}

import { AppError } from '@cdaas/contract/errors.ts';
import type { MeshConfirmation } from '@cdaas/pipeline/deployment-state.ts';
import { chooseSplitApiVersion, splitGroup } from '@cdaas/pipeline/traffic/smi.ts';
import { identifyCluster } from './cluster-identity.ts';
import { createKubeClient, type KubeClient } from './drivers/kube.ts';
import { statusMessage } from './drivers/kube-answer.ts';
import type { Outcome } from './drivers/kube-exchange.ts';
import type { ClusterAccess } from './kubeconfig.ts';
import type { Outbound } from './outbound.ts';

/** What registration finds out about a cluster. */
export type ClusterSurvey = {
  version: string;
  /** The same for everybody who registers this cluster, and for no other cluster (cluster-identity.ts). */
  clusterUid: string;
  /** API version of TrafficSplit to write; null where the cluster serves none. */
  splitVersion: string | null;
  meshConfirmation: MeshConfirmation;
};

/** What a deployment reads all the time; a credential that may not list these is of no use. */
const neededLists = [
  { path: (namespace: string) => `/api/v1${namespace}/services`, what: 'services' },
  { path: (namespace: string) => `/apis/apps/v1${namespace}/replicasets`, what: 'replicasets.apps' },
];

/**
 * Asks a cluster who it is, whether the credential is accepted, and whether it may list in the namespaces that will be
 * deployed to.
 *
 * @param namespaces empty: every namespace
 * @throws AppError cluster.refused (an address that is not allowed, a credential that is not accepted),
 *   cluster.unreachable, cluster.permission
 */
export async function surveyCluster(
  access: ClusterAccess,
  namespaces: readonly string[],
  outbound: Outbound,
): Promise<ClusterSurvey> {
  const client = createKubeClient({ ...access, outbound });
  try {
    const version = versionOf(answered(await client.version(), 'get /version'));
    await Promise.all(
      (namespaces.length === 0 ? [''] : namespaces.map((name) => `/namespaces/${encodeURIComponent(name)}`)).flatMap(
        (namespace) => neededLists.map((list) => checkList(client, list.path(namespace), list.what, namespace)),
      ),
    );
    const [clusterUid, split, meshConfirmation] = await Promise.all([
      uidOf(access, outbound),
      client.servedVersions(splitGroup),
      detectMesh(client),
    ]);
    const splitVersion = split.kind === 'served' ? (chooseSplitApiVersion(split.versions) ?? null) : null;
    return { version, clusterUid, splitVersion, meshConfirmation };
  } finally {
    await client.close();
  }
}

async function checkList(client: KubeClient, path: string, what: string, namespace: string): Promise<void> {
  const where = namespace === '' ? 'in all namespaces' : `in namespace ${namespace.slice('/namespaces/'.length)}`;
  const list = answered(await client.request({ method: 'GET', path, query: { limit: 1 } }), `list ${what} ${where}`);
  if (Array.isArray(field(list, 'items'))) return;
  throw new AppError('cluster.unreachable', `Asked to list ${what} ${where}, the cluster answered with no list.`, {
    hint: 'The address may not be that of a Kubernetes API server.',
    path: '/server',
  });
}

async function uidOf(access: ClusterAccess, outbound: Outbound): Promise<string> {
  const uid = await identifyCluster(access, outbound);
  if (uid !== undefined) return uid;
  throw new AppError('cluster.unreachable', 'The cluster could not be told from others: it did not show its CA.', {
    hint: 'Check that caData holds the root of the chain that the server shows, and try again.',
    path: '/server',
  });
}

/** The body of a good answer. What else came becomes the error of the caller of the API. */
function answered(outcome: Outcome, action: string): unknown {
  if (outcome.kind === 'unreachable') {
    const code = outcome.code === 'outbound.refused' ? 'cluster.refused' : 'cluster.unreachable';
    throw new AppError(code, `The cluster could not be reached: ${outcome.reason}`, {
      hint:
        code === 'cluster.refused'
          ? 'The operator of this server allows addresses by OUTBOUND_ALLOW, for example cluster:10.0.0.0/8:6443.'
          : 'Check the address, the CA and that this server can reach the cluster.',
      path: '/server',
    });
  }
  if (outcome.status >= 200 && outcome.status < 300) return outcome.body;
  if (outcome.status === 401) {
    throw new AppError('cluster.refused', 'The cluster does not accept this credential (401).', {
      hint: 'The token or certificate may have expired or belong to another cluster.',
    });
  }
  if (outcome.status === 403) {
    throw new AppError('cluster.permission', `The credential may not ${action} (403).`, {
      hint: 'Give its ServiceAccount a Role that allows it, or name the namespaces it may use in `namespaces`.',
    });
  }
  throw new AppError('cluster.unreachable', `The cluster answered ${outcome.status} when asked to ${action}.`, {
    hint: 'The address may not be that of a Kubernetes API server.',
    path: '/server',
    cause: statusMessage(outcome.body),
  });
}

function versionOf(body: unknown): string {
  const version = field(body, 'gitVersion');
  if (typeof version === 'string' && /^v\d[\w.+-]{0,99}$/.test(version)) return version;
  throw new AppError('cluster.unreachable', 'What answers at this address is not a Kubernetes API server.', {
    hint: 'GET /version has no gitVersion.',
    path: '/server',
  });
}

/** Linkerd's SMI adaptor confirms weights only where ServiceProfiles are served and its workload is there. */
async function detectMesh(client: KubeClient): Promise<MeshConfirmation> {
  const profiles = await client.findResource('linkerd.io/v1alpha2', 'ServiceProfile');
  if (profiles.kind !== 'found') return 'stored';
  const collection = { apiVersion: 'apps/v1', plural: 'deployments' };
  const usual = await client.get({ ...collection, namespace: 'linkerd-smi', name: 'smi-adaptor' });
  if (usual.kind === 'answered' && usual.status === 200) return 'linkerd-smi';
  const anywhere = await client.request({
    method: 'GET',
    path: '/apis/apps/v1/deployments',
    query: { labelSelector: 'component=smi-adaptor', limit: 1 },
  });
  const items = anywhere.kind === 'answered' && anywhere.status === 200 ? field(anywhere.body, 'items') : undefined;
  return Array.isArray(items) && items.length > 0 ? 'linkerd-smi' : 'stored';
}

function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;
}

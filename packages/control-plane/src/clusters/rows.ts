import { AppError } from '@cdaas/contract/errors.ts';
import { shorten } from '@cdaas/pipeline/file/words.ts';
import type { Context } from '../context.ts';
import type { Transaction } from '../database/db.ts';
import type { Prisma } from '../generated/client.ts';
import { pipelineLink } from '../links.ts';
import type { CallerContext } from '../principals.ts';
import type { ClusterAccess } from './kubeconfig.ts';
import type { MissingRight } from './reviews.ts';
import type { ClusterSurvey } from './survey.ts';

/** A registered cluster as the API may tell of it: everything but the credential. */
export type RegisteredCluster = {
  name: string;
  server: string;
  kubernetesVersion: string;
  namespaces: string[];
  clusterScopedKinds: string[];
  /** The one in force. */
  meshConfirmation: string;
  /** `detected`, or what overrules it; null of a registration before there was a choice: as in force. */
  meshSetting: string | null;
  meshDetected: string | null;
  /** API version of the TrafficSplits that it served when it was last verified. */
  splitVersion: string | null;
  createdAt: Date;
  verifiedAt: Date;
  /** As JSON; see Findings. */
  findings: unknown;
  health: Health | null;
};

/** What the last verification saw, for people to look at; times as ISO 8601. */
export type Findings = {
  credential: 'token' | 'clientCertificate';
  credentialUntil: string | null;
  serverUntil: string;
  caUntil: string;
  splitVersions: string[];
  meshEvidence: string;
  missing: MissingRight[];
};

export type Health = {
  state: string;
  since: Date;
  checkedAt: Date | null;
  lastSuccessAt: Date | null;
  latencyMs: number | null;
  error: string | null;
  changes: { state: string; at: Date; error: string | null }[];
};

/** Changes of state that are shown. */
const shownChanges = 20;

export const visibleCluster = {
  name: true,
  server: true,
  kubernetesVersion: true,
  namespaces: true,
  clusterScopedKinds: true,
  meshConfirmation: true,
  meshSetting: true,
  meshDetected: true,
  splitVersion: true,
  createdAt: true,
  verifiedAt: true,
  findings: true,
  health: {
    select: {
      state: true,
      since: true,
      checkedAt: true,
      lastSuccessAt: true,
      latencyMs: true,
      error: true,
      changes: {
        select: { state: true, at: true, error: true },
        orderBy: { number: 'desc' },
        take: shownChanges,
      },
    },
  },
} as const satisfies Prisma.ClusterSelect;

/** Whether the mesh confirmation follows what is detected, or what overrules it. */
export type MeshSetting = 'detected' | 'linkerd-smi' | 'stored';

/** How a cluster is reached, as columns of its row. */
export async function accessColumns(ctx: Context, id: string, { server, caData, credential }: ClusterAccess) {
  const at = { table: 'cluster', row: id, field: 'credential' };
  return { server, caData, credential: await ctx.vault.encryptJson(ctx.scope.organisationId, at, credential) };
}

/** What a survey found, as columns of its row. */
export function surveyColumns(survey: ClusterSurvey, access: ClusterAccess, setting: MeshSetting) {
  const findings: Findings = {
    credential: 'token' in access.credential ? 'token' : 'clientCertificate',
    credentialUntil: survey.credentialUntil?.toISOString() ?? null,
    serverUntil: survey.identity.certificates.serverUntil.toISOString(),
    caUntil: survey.identity.certificates.caUntil.toISOString(),
    splitVersions: survey.splitVersions,
    meshEvidence: survey.meshEvidence,
    missing: survey.missing,
  };
  return {
    kubernetesVersion: survey.version,
    splitVersion: survey.splitVersion,
    meshDetected: survey.meshConfirmation,
    meshConfirmation: setting === 'detected' ? survey.meshConfirmation : setting,
    findings,
  };
}

/**
 * Locks the row of a cluster as starting a pipeline does, so that no deployment to it can begin meanwhile.
 *
 * @throws AppError not.found
 */
export async function lockCluster(
  tx: Transaction,
  { scope }: Context,
  name: string,
): Promise<{ id: string; accessVersion: number }> {
  const [locked] = await tx.$queryRaw<{ id: string; accessVersion: number }[]>`
    select id::text, access_version as "accessVersion" from cluster
    where tenant_id = ${scope.tenantId}::uuid and name = ${name} for update`;
  if (locked === undefined) throw noCluster(name);
  return locked;
}

/**
 * @param where which deployments stand in the way; those that are done never do
 * @throws AppError cluster.inUse with links to them
 */
export async function refuseWhileInUse(
  tx: Transaction,
  ctx: CallerContext,
  where: Prisma.DeploymentWhereInput,
  words: string,
): Promise<void> {
  const running = await tx.deployment.findMany({
    where: { ...where, done: false },
    select: { pipelineId: true },
    orderBy: { id: 'asc' },
    take: 20,
  });
  if (running.length === 0) return;
  const links = [...new Set(running.map(({ pipelineId }) => pipelineLink(ctx, pipelineId)))];
  throw new AppError('cluster.inUse', `${words}: ${links.join(' ')}`, {
    hint: 'Cancel them or wait until they have ended.',
    link: links[0],
  });
}

export function noCluster(name: string): AppError {
  return new AppError('not.found', `There is no cluster "${shorten(name)}".`, {
    hint: 'GET /clusters lists them.',
  });
}

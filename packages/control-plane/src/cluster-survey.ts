import { X509Certificate } from 'node:crypto';
import { AppError, type Violation } from '@cdaas/contract/errors.ts';
import type { MeshConfirmation } from '@cdaas/pipeline/deployment-state.ts';
import { isRecord } from '@cdaas/pipeline/is-record.ts';
import { chooseSplitApiVersion, splitGroup } from '@cdaas/pipeline/traffic/smi.ts';
import { type ClusterIdentity, identifyCluster } from './cluster-identity.ts';
import { type MissingRight, reviewRights } from './cluster-reviews.ts';
import { explainTls } from './cluster-tls.ts';
import { createKubeClient, type KubeClient } from './drivers/kube.ts';
import { statusMessage } from './drivers/kube-answer.ts';
import type { Outcome } from './drivers/kube-exchange.ts';
import { engineRights, resourceWords } from './engine-rights.ts';
import type { ClusterAccess, ClusterCredential } from './kubeconfig.ts';
import type { Outbound } from './outbound.ts';

/** What registration, and every verification after it, finds out about a cluster. */
export type ClusterSurvey = {
  version: string;
  identity: ClusterIdentity;
  /** API version of TrafficSplit to write; null where the cluster serves none. */
  splitVersion: string | null;
  /** All that are served, preferred first. */
  splitVersions: string[];
  meshConfirmation: MeshConfirmation;
  /** What that was concluded from. */
  meshEvidence: string;
  /** When the token or the client certificate ends; null where it does not say. */
  credentialUntil: Date | null;
  /** Optional rights that the credential lacks. */
  missing: MissingRight[];
};

export type SurveyInput = {
  access: ClusterAccess;
  /** Empty: every namespace. */
  namespaces: readonly string[];
  clusterScopedKinds: readonly string[];
};

/** The whole of it must be answered within this. */
const deadlineMs = 30_000;
const mostMissing = 200;

/**
 * Asks a cluster who it is, whether the credential is accepted, and for each right that the engine needs, in the namespaces
 * that will be deployed to.
 *
 * @throws AppError cluster.refused (an address that is not allowed, a credential that is not accepted),
 *   cluster.unreachable (also for what is wrong with the TLS chain), cluster.permission with every right that is missing
 */
export async function surveyCluster(
  input: SurveyInput,
  { outbound, publicUrl, now }: { outbound: Outbound; publicUrl: string; now: Date },
): Promise<ClusterSurvey> {
  const { access, namespaces, clusterScopedKinds } = input;
  const client = createKubeClient({ ...access, outbound });
  const signal = AbortSignal.timeout(deadlineMs);
  try {
    const version = versionOf(await answered(await client.version({ signal }), 'get /version', access, outbound, now));
    const groups = [...new Set(engineRights.filter(({ need }) => need === 'served').map(({ group }) => group))];
    const served = new Map<string, string[]>();
    for (const group of groups) {
      const found = await client.servedVersions(group, { signal });
      if (found.kind === 'served') served.set(group, found.versions);
      else await answered(found, `get /apis/${group}`, access, outbound, now);
    }
    const serves = (group: string) => (served.get(group) ?? []).length > 0;
    const reviewed = await reviewRights(client, { namespaces, clusterScopedKinds, signal }, serves);
    if (reviewed.kind !== 'reviewed') {
      await answered(reviewed, 'create selfsubjectaccessreviews.authorization.k8s.io', access, outbound, now);
      throw new Error('a review that was answered is missing');
    }
    const needed = reviewed.missing.filter(({ optional }) => !optional);
    if (needed.length > 0) throw permissionError(needed, namespaces, publicUrl);

    const identity = await identifyCluster(access, outbound);
    if (identity === undefined) throw notIdentified();
    const splitVersions = (served.get(splitGroup) ?? []).filter((each) => /^v\d\w{0,20}$/.test(each)).slice(0, 10);
    const mesh = await detectMesh(client, splitVersions.length > 0);
    return {
      version,
      identity,
      splitVersion: chooseSplitApiVersion(splitVersions) ?? null,
      splitVersions: splitVersions.map((each) => `${splitGroup}/${each}`),
      ...mesh,
      credentialUntil: credentialEnd(access.credential),
      missing: reviewed.missing,
    };
  } finally {
    await client.close();
  }
}

/** Where the RBAC for these namespaces is to be had. */
export function rbacLink(publicUrl: string, namespaces: readonly string[]): string {
  const query = new URLSearchParams(namespaces.map((namespace): [string, string] => ['namespace', namespace]));
  return `${publicUrl}/clusters/rbac.yaml${namespaces.length === 0 ? '' : `?${query}`}`;
}

/** `list services in namespace shop`, `get namespaces kube-system`. */
export function rightWords({ verb, namespace, name, ...right }: MissingRight): string {
  const object = name === undefined ? '' : ` ${name}`;
  const where = namespace === '' || namespace === name ? '' : ` in namespace ${namespace}`;
  return `${verb} ${resourceWords(right)}${object}${where}`;
}

function permissionError(missing: readonly MissingRight[], namespaces: readonly string[], publicUrl: string): AppError {
  const hint = `RBAC that is enough: kubectl apply -f '${rbacLink(publicUrl, namespaces)}'`;
  const violations = missing.slice(0, mostMissing).map((right): Violation => {
    const where = right.namespace === '' ? ' in all namespaces' : '';
    const metadata = {
      verb: right.verb,
      resource: resourceWords(right),
      ...(right.namespace === '' ? {} : { namespace: right.namespace }),
    };
    return {
      code: 'cluster.permission',
      message: `The credential may not ${rightWords(right)}${where}.`,
      hint,
      metadata,
    };
  });
  const left = missing.length - violations.length;
  if (left > 0) {
    violations.push({ code: 'cluster.permission', message: `The credential lacks ${left} more rights.`, hint });
  }
  const [first, ...rest] = violations;
  if (first === undefined) throw new Error('a credential refused for no missing right');
  return AppError.ofViolations([first, ...rest]);
}

function notIdentified(): AppError {
  return new AppError('cluster.unreachable', 'The cluster could not be told from others: it did not show its CA.', {
    hint: 'Check that caData holds the root of the chain that the server shows, and try again.',
    path: '/server',
  });
}

/** The body of a good answer. What else came becomes the error of the caller of the API. */
async function answered(
  outcome: Outcome,
  action: string,
  access: ClusterAccess,
  outbound: Outbound,
  now: Date,
): Promise<unknown> {
  if (outcome.kind === 'unreachable') throw await notReached(outcome, access, outbound, now);
  if (outcome.status >= 200 && outcome.status < 300) return outcome.body;
  if (outcome.status === 401) {
    throw new AppError('cluster.refused', 'The cluster does not accept this credential (401).', {
      hint: 'The token or certificate may have expired or belong to another cluster.',
    });
  }
  if (outcome.status === 403) {
    const [verb = '', resource = ''] = action.split(' ');
    throw new AppError('cluster.permission', `The credential may not ${action} (403).`, {
      hint: 'Kubernetes allows this to every signed-in user, by the ClusterRoles system:basic-user and system:discovery.',
      metadata: { verb, resource },
    });
  }
  throw new AppError('cluster.unreachable', `The cluster answered ${outcome.status} when asked to ${action}.`, {
    hint: 'The address may not be that of a Kubernetes API server.',
    path: '/server',
    cause: statusMessage(outcome.body),
  });
}

async function notReached(
  outcome: Extract<Outcome, { kind: 'unreachable' }>,
  access: ClusterAccess,
  outbound: Outbound,
  now: Date,
): Promise<AppError> {
  if (outcome.code === 'outbound.refused') {
    return new AppError('cluster.refused', `The cluster could not be reached: ${outcome.reason}`, {
      hint: 'The operator of this server allows addresses by OUTBOUND_ALLOW, for example cluster:10.0.0.0/8:6443.',
      path: '/server',
    });
  }
  const isTls = outcome.code === 'tls' || outcome.code === 'reset' || outcome.code === 'connect';
  const chain = isTls ? await explainTls(access, outbound, now) : undefined;
  const late = outcome.code === 'aborted' ? `it was not done answering within ${deadlineMs / 1000} s` : undefined;
  return new AppError('cluster.unreachable', `The cluster could not be reached: ${chain ?? late ?? outcome.reason}`, {
    hint: chain
      ? 'Only the CA that is registered is trusted.'
      : 'Check the address, and that this server can reach it.',
    path: chain?.includes('CA that was given') ? '/caData' : '/server',
  });
}

function versionOf(body: unknown): string {
  const version = isRecord(body) ? body.gitVersion : undefined;
  if (typeof version === 'string' && /^v\d[\w.+-]{0,99}$/.test(version)) return version;
  throw new AppError('cluster.unreachable', 'What answers at this address is not a Kubernetes API server.', {
    hint: 'GET /version has no gitVersion.',
    path: '/server',
  });
}

type Mesh = Pick<ClusterSurvey, 'meshConfirmation' | 'meshEvidence'>;

/**
 * Linkerd's SMI adaptor confirms weights only where ServiceProfiles are served and its workload is there. Where that may not
 * be looked at, waiting for a confirmation that never comes is the safe mistake: a canary fails before it shifts anything.
 */
async function detectMesh(client: KubeClient, servesSplits: boolean): Promise<Mesh> {
  const profiles = await client.findResource('linkerd.io/v1alpha2', 'ServiceProfile');
  if (profiles.kind === 'absent') return { meshConfirmation: 'stored', meshEvidence: 'ServiceProfiles are not served' };
  const collection = { apiVersion: 'apps/v1', plural: 'deployments' };
  const usual = await client.get({ ...collection, namespace: 'linkerd-smi', name: 'smi-adaptor' });
  if (usual.kind === 'answered' && usual.status === 200) {
    return { meshConfirmation: 'linkerd-smi', meshEvidence: 'Deployment linkerd-smi/smi-adaptor is there' };
  }
  const anywhere = await client.request({
    method: 'GET',
    path: '/apis/apps/v1/deployments',
    query: { labelSelector: 'component=smi-adaptor', limit: 1 },
  });
  const list = anywhere.kind === 'answered' && anywhere.status === 200 ? anywhere.body : undefined;
  const items = isRecord(list) ? list.items : undefined;
  if (Array.isArray(items) && items.length > 0) {
    return { meshConfirmation: 'linkerd-smi', meshEvidence: 'a Deployment labelled component=smi-adaptor is there' };
  }
  const isForbidden = usual.kind === 'answered' && usual.status === 403;
  if (isForbidden && profiles.kind === 'found' && servesSplits) {
    const evidence = 'ServiceProfiles and TrafficSplits are served; the credential may not look for the adaptor';
    return { meshConfirmation: 'linkerd-smi', meshEvidence: evidence };
  }
  return { meshConfirmation: 'stored', meshEvidence: 'Linkerd’s SMI adaptor was not found' };
}

/** When a credential says that it ends: `exp` of a JWT (RFC 7519, section 4.1.4), or the end of a certificate. */
export function credentialEnd(credential: ClusterCredential): Date | null {
  if ('certificate' in credential) return new Date(new X509Certificate(credential.certificate).validTo);
  const [, payload] = credential.token.split('.');
  if (payload === undefined) return null;
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const seconds = isRecord(claims) ? claims.exp : undefined;
    return typeof seconds === 'number' && seconds > 0 && seconds < 4e10 ? new Date(seconds * 1000) : null;
  } catch {
    return null;
  }
}

import { X509Certificate } from 'node:crypto';
import { AppError, type Violation } from '@cdaas/contract/errors.ts';
import type { MeshConfirmation } from '@cdaas/pipeline/deployment-state.ts';
import { isRecord } from '@cdaas/pipeline/is-record.ts';
import { chooseSplitApiVersion, splitGroup } from '@cdaas/pipeline/traffic/smi.ts';
import { createKubeClient, type KubeClient } from '../drivers/kube.ts';
import { statusMessage } from '../drivers/kube-answer.ts';
import type { Answered, Outcome, Unreachable } from '../drivers/kube-exchange.ts';
import type { Outbound } from '../outbound.ts';
import { engineRights, resourceWords } from './engine-rights.ts';
import { type ClusterIdentity, identifyCluster } from './identity.ts';
import type { ClusterAccess, ClusterCredential } from './kubeconfig.ts';
import { type MissingRight, reviewRights } from './reviews.ts';
import { explainTls } from './tls.ts';

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
const defaultDeadlineMs = 30_000;
const mostMissing = 200;

type Asking = { access: ClusterAccess; outbound: Outbound; now: Date; deadlineMs: number; signal: AbortSignal };

/**
 * Asks a cluster who it is, whether the credential is accepted, and for each right that the engine needs, in the namespaces
 * that will be deployed to.
 *
 * @throws AppError cluster.refused (an address that is not allowed, a credential that is not accepted),
 *   cluster.unreachable (also for what is wrong with the TLS chain), cluster.permission with every right that is missing
 */
export async function surveyCluster(
  input: SurveyInput,
  {
    outbound,
    publicUrl,
    now,
    deadlineMs = defaultDeadlineMs,
  }: { outbound: Outbound; publicUrl: string; now: Date; deadlineMs?: number },
): Promise<ClusterSurvey> {
  const { access, namespaces, clusterScopedKinds } = input;
  const client = createKubeClient({ ...access, outbound });
  const signal = AbortSignal.timeout(deadlineMs);
  const asking: Asking = { access, outbound, now, deadlineMs, signal };
  try {
    const version = versionOf(await answered(await client.version({ signal }), 'get /version', asking));
    const groups = [...new Set(engineRights.filter(({ need }) => need === 'served').map(({ group }) => group))];
    const served = new Map<string, string[]>();
    for (const group of groups) {
      const found = await client.servedVersions(group, { signal });
      if (found.kind === 'served') served.set(group, found.versions);
      else await answered(found, `get /apis/${group}`, asking);
    }
    const serves = (group: string) => (served.get(group) ?? []).length > 0;
    const reviewed = await reviewRights(client, { namespaces, clusterScopedKinds, signal }, serves);
    if (reviewed.kind !== 'reviewed') {
      await answered(reviewed, 'create selfsubjectaccessreviews.authorization.k8s.io', asking);
      throw new Error('a review that was answered is missing');
    }
    const needed = reviewed.missing.filter(({ optional }) => !optional);
    if (needed.length > 0) throw permissionError(needed, namespaces, publicUrl);

    const identity = await identifyCluster(access, outbound, signal);
    if (identity === undefined) throw signal.aborted ? await notReached(late, asking) : notIdentified();
    const splitVersions = (served.get(splitGroup) ?? []).filter((each) => /^v\d\w{0,20}$/.test(each)).slice(0, 10);
    const mesh = await detectMesh(client, splitVersions.length > 0, asking);
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
  const hint = `RBAC that is enough: kubectl apply -f '${rbacLink(publicUrl, namespaces)}' (it replaces what was applied before: add &kind=… for the kinds that files hold)`;
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
async function answered(outcome: Outcome, action: string, asking: Asking): Promise<unknown> {
  if (outcome.kind === 'unreachable') throw await notReached(outcome, asking);
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

const late: Unreachable = { kind: 'unreachable', code: 'aborted', reason: 'the time is over', sent: true };

async function notReached(
  outcome: Unreachable,
  { access, outbound, now, deadlineMs, signal }: Asking,
): Promise<AppError> {
  if (outcome.code === 'outbound.refused') {
    return new AppError('cluster.refused', `The cluster could not be reached: ${outcome.reason}`, {
      hint: 'The operator of this server allows addresses by OUTBOUND_ALLOW, for example cluster:10.0.0.0/8:6443.',
      path: '/server',
    });
  }
  const isTls = outcome.code === 'tls' || outcome.code === 'reset' || outcome.code === 'connect';
  const chain = isTls ? await explainTls(access, outbound, { now, signal }) : undefined;
  const tooLate = outcome.code === 'aborted' ? `it was not done answering within ${deadlineMs / 1000} s` : undefined;
  return new AppError(
    'cluster.unreachable',
    `The cluster could not be reached: ${chain ?? tooLate ?? outcome.reason}`,
    {
      hint: chain
        ? 'Only the CA that is registered is trusted.'
        : 'Check the address, and that this server can reach it.',
      path: chain?.includes('CA that was given') ? '/caData' : '/server',
    },
  );
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
 * A look that fails otherwise says nothing, so that the whole fails with it.
 *
 * @throws AppError as for every other question
 */
async function detectMesh(client: KubeClient, servesSplits: boolean, asking: Asking): Promise<Mesh> {
  const { signal } = asking;
  const profiles = await client.findResource('linkerd.io/v1alpha2', 'ServiceProfile', { signal });
  if (profiles.kind === 'absent') return { meshConfirmation: 'stored', meshEvidence: 'ServiceProfiles are not served' };
  if (profiles.kind !== 'found') {
    await answered(profiles, 'get /apis/linkerd.io/v1alpha2', asking);
    throw new Error('a discovery that was answered is missing');
  }
  const collection = { apiVersion: 'apps/v1', plural: 'deployments' };
  const usual = await looked(
    await client.get({ ...collection, namespace: 'linkerd-smi', name: 'smi-adaptor' }, { signal }),
    'get deployments.apps linkerd-smi/smi-adaptor',
    asking,
  );
  if (usual.status === 200) {
    return { meshConfirmation: 'linkerd-smi', meshEvidence: 'Deployment linkerd-smi/smi-adaptor is there' };
  }
  const anywhere = await looked(
    await client.request({
      method: 'GET',
      path: '/apis/apps/v1/deployments',
      query: { labelSelector: 'component=smi-adaptor', limit: 1 },
      signal,
    }),
    'list deployments.apps',
    asking,
  );
  const items = anywhere.status === 200 && isRecord(anywhere.body) ? anywhere.body.items : undefined;
  if (Array.isArray(items) && items.length > 0) {
    return { meshConfirmation: 'linkerd-smi', meshEvidence: 'a Deployment labelled component=smi-adaptor is there' };
  }
  if (servesSplits && (usual.status === 403 || anywhere.status === 403)) {
    const evidence =
      'ServiceProfiles and TrafficSplits are served; the credential may not look everywhere for the adaptor';
    return { meshConfirmation: 'linkerd-smi', meshEvidence: evidence };
  }
  return { meshConfirmation: 'stored', meshEvidence: 'Linkerd’s SMI adaptor was not found' };
}

/** An answer that says whether something is there, or that one may not look. */
async function looked(outcome: Outcome, action: string, asking: Asking): Promise<Answered> {
  const says = outcome.kind === 'answered' && [200, 403, 404].includes(outcome.status);
  if (!says) await answered(outcome, action, asking);
  return outcome as Answered;
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

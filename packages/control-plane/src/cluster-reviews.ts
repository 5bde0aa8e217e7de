import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubeClient } from './drivers/kube.ts';
import type { Outcome } from './drivers/kube-exchange.ts';
import {
  clusterScopedRights,
  engineRights,
  lookupRights,
  type NamedRight,
  type Right,
  type RightVerb,
  usualManifestRights,
} from './engine-rights.ts';

/** One right that a credential was asked for and does not have. `namespace` empty: in all, or the kind lies outside of them. */
export type MissingRight = {
  verb: RightVerb;
  group: string;
  resource: string;
  namespace: string;
  name?: string;
  /** Deployments work without it; `without` says what does not. */
  optional: boolean;
  without?: string;
};

type Review = { right: Right | NamedRight; verb: RightVerb; namespace: string };

export type Reviewed = { kind: 'reviewed'; missing: MissingRight[] } | Outcome;

/** Reviews under way at once: the client takes more, but others wait for it too. */
const atOnce = 8;

/**
 * Asks a cluster, by a SelfSubjectAccessReview for each (authorization.k8s.io/v1), which of the rights that the engine needs
 * its credential lacks. What is allowed in all namespaces is not asked again for each.
 *
 * @param namespaces empty: every namespace
 * @param serves whether the cluster serves an API group
 * @returns all that is missing, or the first outcome that is no answer to a review
 */
export async function reviewRights(
  client: KubeClient,
  asked: { namespaces: readonly string[]; clusterScopedKinds: readonly string[]; signal?: AbortSignal },
  serves: (group: string) => boolean,
): Promise<Reviewed> {
  const { namespaces, clusterScopedKinds, signal } = asked;
  const everywhere = [...engineRights, ...usualManifestRights].flatMap((right) => reviewsOf(right, ''));
  const elsewhere = [...lookupRights, ...clusterScopedRights(clusterScopedKinds, namespaces)].flatMap((right) =>
    reviewsOf(right, placeOf(right)),
  );
  const first = await askAll(client, [...everywhere, ...elsewhere], signal);
  if (first.kind !== 'asked') return first;
  const narrow = (review: Review) => namespaces.length > 0 && everywhere.includes(review);
  const again = first.denied.filter(narrow).flatMap((review) => {
    return namespaces.map((namespace) => ({ ...review, namespace }));
  });
  const second = await askAll(client, again, signal);
  if (second.kind !== 'asked') return second;
  const denied = [...first.denied.filter((review) => !narrow(review)), ...second.denied];
  return { kind: 'reviewed', missing: denied.map((review) => missingOf(review, serves)) };
}

function placeOf(right: Right | NamedRight): string {
  return 'name' in right ? (right.namespace ?? '') : '';
}

function reviewsOf(right: Right | NamedRight, namespace: string): Review[] {
  return right.verbs.map((verb) => ({ right, verb, namespace }));
}

function missingOf({ right, verb, namespace }: Review, serves: (group: string) => boolean): MissingRight {
  const { group, resource, need, without } = right;
  const unserved = need === 'served' && !serves(group);
  const loss = unserved ? `nothing yet: the cluster does not serve ${group}` : without;
  return {
    verb,
    group,
    resource,
    namespace,
    ...('name' in right ? { name: right.name } : {}),
    optional: need === 'optional' || unserved,
    ...(loss === undefined ? {} : { without: loss }),
  };
}

/** Asks a few at a time and stops at the first that is not answered. */
async function askAll(
  client: KubeClient,
  reviews: readonly Review[],
  signal: AbortSignal | undefined,
): Promise<{ kind: 'asked'; denied: Review[] } | Outcome> {
  const denied = new Set<Review>();
  let failed: Outcome | undefined;
  const left = reviews.values();
  const ask = async () => {
    for (const review of left) {
      if (failed !== undefined) return;
      const answer = await askOne(client, review, signal);
      if (typeof answer !== 'boolean') failed ??= answer;
      else if (!answer) denied.add(review);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, ask));
  // In the order of the table, whatever was answered first.
  return failed ?? { kind: 'asked', denied: reviews.filter((review) => denied.has(review)) };
}

async function askOne(
  client: KubeClient,
  { right, verb, namespace }: Review,
  signal: AbortSignal | undefined,
): Promise<boolean | Outcome> {
  const { group, resource } = right;
  const name = 'name' in right ? { name: right.name } : {};
  const resourceAttributes = { group, resource, verb, ...(namespace === '' ? {} : { namespace }), ...name };
  const body = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes },
  };
  const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
  const outcome = await client.request({ method: 'POST', path, body, ...(signal ? { signal } : {}) });
  if (outcome.kind !== 'answered' || outcome.status >= 300) return outcome;
  const status = isRecord(outcome.body) && isRecord(outcome.body.status) ? outcome.body.status : undefined;
  if (typeof status?.allowed === 'boolean') return status.allowed;
  const reason = 'the server answered a SelfSubjectAccessReview with something else: is it a Kubernetes API server?';
  return { kind: 'unreachable', code: 'answer.notJson', reason, sent: true };
}

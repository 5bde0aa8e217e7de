import { isRecord } from '@cdaas/pipeline/is-record.ts';
import type { KubeClient } from '../drivers/kube.ts';
import type { Answered, Outcome } from '../drivers/kube-exchange.ts';
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
 * Asks a cluster which of the rights that the engine needs its credential lacks (authorization.k8s.io/v1): a
 * SelfSubjectAccessReview for each right in all namespaces; what is not allowed there, by one SelfSubjectRulesReview in each
 * namespace. Only where a cluster says that those rules are not all is what is not among them asked singly too: a hundred
 * namespaces would be thousands of questions.
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
  const placed = elsewhere.filter(({ namespace }) => namespaces.includes(namespace));
  const first = await askAll(client, [...everywhere, ...elsewhere.filter((each) => !placed.includes(each))], signal);
  if (first.kind !== 'asked') return first;
  const narrow = (review: Review) => namespaces.length > 0 && everywhere.includes(review);
  const again = first.denied.filter(narrow).flatMap((review) => {
    return namespaces.map((namespace) => ({ ...review, namespace }));
  });
  const second = await askByRules(client, [...placed, ...again], signal);
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

type Asked = { kind: 'asked'; denied: Review[] };

/** Asks for each right singly. */
async function askAll(
  client: KubeClient,
  reviews: readonly Review[],
  signal: AbortSignal | undefined,
): Promise<Asked | Outcome> {
  const denied = new Set<Review>();
  const failed = await someAtOnce(reviews, async (review) => {
    const answer = await askOne(client, review, signal);
    if (typeof answer !== 'boolean') return answer;
    if (!answer) denied.add(review);
    return undefined;
  });
  // In the order of the table, whatever was answered first.
  return failed ?? { kind: 'asked', denied: reviews.filter((review) => denied.has(review)) };
}

/** Asks for the rules of each namespace, and singly for what those leave open. */
async function askByRules(
  client: KubeClient,
  reviews: readonly Review[],
  signal: AbortSignal | undefined,
): Promise<Asked | Outcome> {
  const denied = new Set<Review>();
  const open = new Set<Review>();
  const places = Map.groupBy(reviews, ({ namespace }) => namespace);
  const failed = await someAtOnce([...places], async ([namespace, here]) => {
    const spec = { namespace };
    const outcome = await create(client, 'SelfSubjectRulesReview', spec, signal);
    if (outcome.kind === 'unreachable') return outcome;
    const { rules, incomplete } = rulesIn(outcome);
    const left = incomplete ? open : denied;
    for (const review of here) if (!rules.some((rule) => isCovered(rule, review))) left.add(review);
    return undefined;
  });
  if (failed) return failed;
  const single = await askAll(
    client,
    reviews.filter((review) => open.has(review)),
    signal,
  );
  if (single.kind !== 'asked') return single;
  for (const review of single.denied) denied.add(review);
  return { kind: 'asked', denied: reviews.filter((review) => denied.has(review)) };
}

type Rule = Record<'verbs' | 'apiGroups' | 'resources' | 'resourceNames', readonly unknown[]>;

/** What an answer says of rules; where it says nothing that can be read, they are not all. */
function rulesIn({ status, body }: Answered): { rules: Rule[]; incomplete: boolean } {
  const said = status < 300 && isRecord(body) && isRecord(body.status) ? body.status : undefined;
  const listed: unknown = said?.resourceRules ?? [];
  const rules = (Array.isArray(listed) ? listed : []).filter(isRecord).map(
    ({ verbs, apiGroups, resources, resourceNames }): Rule => ({
      verbs: Array.isArray(verbs) ? verbs : [],
      apiGroups: Array.isArray(apiGroups) ? apiGroups : [],
      resources: Array.isArray(resources) ? resources : [],
      resourceNames: Array.isArray(resourceNames) ? resourceNames : [],
    }),
  );
  return { rules, incomplete: said?.incomplete !== false || !Array.isArray(listed) };
}

function isCovered({ verbs, apiGroups, resources, resourceNames }: Rule, { right, verb }: Review): boolean {
  const has = (values: readonly unknown[], wanted: string) => values.includes('*') || values.includes(wanted);
  const isNamed = resourceNames.length === 0 || ('name' in right && resourceNames.includes(right.name));
  return isNamed && has(verbs, verb) && has(apiGroups, right.group) && has(resources, right.resource);
}

/** Asks a few at a time and stops at the first that is not answered, which is what comes back. */
async function someAtOnce<T>(
  items: readonly T[],
  ask: (item: T) => Promise<Outcome | undefined>,
): Promise<Outcome | undefined> {
  let failed: Outcome | undefined;
  const left = items.values();
  const work = async () => {
    for (const item of left) {
      if (failed !== undefined) return;
      const outcome = await ask(item);
      failed ??= outcome;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return failed;
}

async function askOne(
  client: KubeClient,
  { right, verb, namespace }: Review,
  signal: AbortSignal | undefined,
): Promise<boolean | Outcome> {
  const { group, resource } = right;
  const name = 'name' in right ? { name: right.name } : {};
  const resourceAttributes = { group, resource, verb, ...(namespace === '' ? {} : { namespace }), ...name };
  const outcome = await create(client, 'SelfSubjectAccessReview', { resourceAttributes }, signal);
  if (outcome.kind !== 'answered' || outcome.status >= 300) return outcome;
  const status = isRecord(outcome.body) && isRecord(outcome.body.status) ? outcome.body.status : undefined;
  if (typeof status?.allowed === 'boolean') return status.allowed;
  const reason = 'the server answered a SelfSubjectAccessReview with something else: is it a Kubernetes API server?';
  return { kind: 'unreachable', code: 'answer.notJson', reason, sent: true };
}

function create(
  client: KubeClient,
  kind: 'SelfSubjectAccessReview' | 'SelfSubjectRulesReview',
  spec: object,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  const path = `/apis/authorization.k8s.io/v1/${kind.toLowerCase()}s`;
  const body = { apiVersion: 'authorization.k8s.io/v1', kind, spec };
  return client.request({ method: 'POST', path, body, signal });
}

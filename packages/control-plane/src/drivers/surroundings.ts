import type { ClusterView } from '@cdaas/pipeline/conditions.ts';
import { isOfDeployments } from '@cdaas/pipeline/deployment-conditions.ts';
import type { Condition, MeshConfirmation } from '@cdaas/pipeline/deployment-state.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { deploymentKey, hashKey, instanceKey } from '@cdaas/pipeline/marks.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import type { Surroundings } from '@cdaas/pipeline/preflight-look.ts';
import { replicaFailureOf } from '@cdaas/pipeline/replica-failure.ts';
import { chooseSplitApiVersion, splitGroup } from '@cdaas/pipeline/traffic/smi.ts';
import { manifestKinds } from '../clusters/engine-rights.ts';
import { type KubeClient, misunderstood } from './kube.ts';
import { essenceForPreflight, essenceOf } from './kube-essence.ts';
import type { Outcome } from './kube-exchange.ts';
import { createSharedAnswers, type SharedAnswers } from './shared-answers.ts';
import { understand } from './understand.ts';

/** Reads of a cluster that are made of several requests. Each answers what it read, or the first outcome that failed. */

type Asked = {
  instance: string;
  meshConfirmation: MeshConfirmation;
  finalAmong(deploymentIds: string[]): Promise<ReadonlySet<string>>;
};

/** What the credential may not do, in words, and what gives it the right. */
type Forbidden = { kind: 'forbidden'; rights: string; help: string };

/**
 * Everything that a preflight looks at (design.md, "Preflight P"); or what the credential may not do of it, in words. Lists
 * are shared with the other preflights of the namespace that ask at the same time.
 */
export async function readSurroundings(
  client: KubeClient,
  plan: DeploymentPlan,
  asked: Asked,
): Promise<{ kind: 'read'; surroundings: Surroundings } | Forbidden | Outcome> {
  const { namespace } = plan;
  const served = await readServed(client);
  if (served.kind !== 'served') return served;
  const splitApiVersion = chooseSplitApiVersion(served.splitVersions);
  const published =
    splitApiVersion === undefined
      ? { kind: 'schema' as const, schema: undefined }
      : await client.findSchema(splitApiVersion, 'TrafficSplit');
  // Not known whether weights are numbers there or strings: the wrong ones would be refused.
  if (published.kind !== 'schema') return published;
  const list = (apiVersion: string, kind: string, labelSelector?: string) =>
    served.isAbsent(apiVersion)
      ? Promise.resolve(noneOf(apiVersion, kind))
      : listAll(client, apiVersion, kind, namespace, { labelSelector, keep: essenceForPreflight });
  const lists = await Promise.all([
    list('v1', 'Service'),
    list('v1', 'Pod'),
    list('apps/v1', 'ReplicaSet', deploymentKey),
    splitApiVersion === undefined ? [] : list(splitApiVersion, 'TrafficSplit'),
    list('linkerd.io/v1alpha2', 'ServiceProfile'),
    list('autoscaling/v2', 'HorizontalPodAutoscaler'),
    list('keda.sh/v1alpha1', 'ScaledObject'),
    list('apps/v1', 'Deployment'),
  ]);
  const rights = lists.flatMap((list, index) => (isForbidden(list) ? [`list ${listedResources[index]}`] : []));
  if (rights.length > 0)
    return { kind: 'forbidden', rights: `${rights.join(', ')} in namespace ${namespace}`, help: '' };
  const failedList = lists.find((list) => !Array.isArray(list));
  if (failedList && !Array.isArray(failedList)) return failedList;
  const [services, pods, marked, splits, profiles, hpas, scaledObjects, deployments] = lists as KubernetesObject[][];
  if (!services || !pods || !marked || !splits || !profiles || !hpas || !scaledObjects || !deployments) {
    throw new Error('a list is missing from the preflight');
  }
  // Those that a Deployment made carry no mark of ours.
  const isThere = deployments.some(({ metadata }) => plan.workloads.some(({ name }) => name === metadata.name));
  const replicaSets = isThere ? await list('apps/v1', 'ReplicaSet') : marked;
  if (!Array.isArray(replicaSets)) return replicaSets;
  const known = new Map(services.map((service) => [service.metadata.name, service]));
  const existing = await Promise.all(
    plan.objects.map((object) =>
      object.apiVersion === 'v1' && object.kind === 'Service' && object.metadata.namespace === namespace
        ? got(known.get(object.metadata.name))
        : getObject(client, object),
    ),
  );
  for (const [index, found] of existing.entries()) {
    const object = plan.objects[index];
    if (object && isForbidden(found)) return await mayNotGet(client, object);
    if (found.kind !== 'got') return found;
  }
  const own = new Set(
    plan.routes.flatMap((route) => [route.rootServiceName, route.canaryServiceName, route.trafficSplitName]),
  );
  const drivers = [
    ...[...services, ...splits].filter(
      ({ metadata }) => own.has(metadata.name) && metadata.annotations?.[instanceKey] === asked.instance,
    ),
    ...deployments.filter(({ metadata }) => plan.workloads.some(({ name }) => name === metadata.name)),
  ].flatMap(({ metadata }) => metadata.labels?.[deploymentKey] ?? []);
  return {
    kind: 'read',
    surroundings: {
      services,
      pods,
      replicaSets,
      splits,
      serviceProfiles: profiles,
      deployments,
      autoscalers: [...hpas, ...scaledObjects],
      existing: existing.map(objectOf),
      unserved: existing.flatMap((found, index) => (found.kind === 'got' && found.isUnserved ? [index] : [])),
      splitApiVersion,
      splitSchema: published.schema,
      meshConfirmation: asked.meshConfirmation,
      instance: asked.instance,
      finalDeployments: drivers.length === 0 ? new Set() : await asked.finalAmong(drivers),
    },
  };
}

/**
 * Which versions of TrafficSplit there are, and which API versions are not served; in one request where the credential may
 * ask that. The rest is found out list by list.
 */
async function readServed(
  client: KubeClient,
): Promise<{ kind: 'served'; splitVersions: string[]; isAbsent(apiVersion: string): boolean } | Outcome> {
  const all = await sharedBy(client).ask('groups', () => client.servedGroups());
  if (all.kind === 'groups') {
    const { groups } = all;
    const isAbsent = (apiVersion: string) => {
      const [group = '', version = ''] = apiVersion.split('/');
      return version !== '' && groups.get(group)?.includes(version) !== true;
    };
    return { kind: 'served', splitVersions: groups.get(splitGroup) ?? [], isAbsent };
  }
  if (all.kind === 'unreachable') return all;
  const served = await client.servedVersions(splitGroup);
  if (served.kind !== 'served') return served;
  return { kind: 'served', splitVersions: served.versions, isAbsent: () => false };
}

/** What the lists of a preflight are of, as RBAC rules name it. */
const listedResources = [
  'services',
  'pods',
  'replicasets.apps',
  'trafficsplits.split.smi-spec.io',
  'serviceprofiles.linkerd.io',
  'horizontalpodautoscalers.autoscaling',
  'scaledobjects.keda.sh',
  'deployments.apps',
];

async function mayNotGet(client: KubeClient, { apiVersion, kind, metadata }: KubernetesObject): Promise<Forbidden> {
  const resource = await client.findResource(apiVersion, kind);
  const isFound = resource.kind === 'found';
  const namespace = isFound && !resource.namespaced ? undefined : metadata.namespace;
  const where = namespace === undefined ? '' : ` in namespace ${namespace}`;
  const known = manifestKinds.some((each) => each.kind === kind);
  const name = known || !isFound || !apiVersion.includes('/') ? kind : `${resource.plural}.${apiVersion.split('/')[0]}`;
  const help = `: the RBAC of GET /clusters/rbac.yaml has it with kind=${name}, beside the namespaces and kinds that the account has (what is applied replaces what was)`;
  return { kind: 'forbidden', rights: `get ${kind} objects${where}`, help };
}

function isForbidden(answer: KubernetesObject[] | Got | Outcome): boolean {
  return !Array.isArray(answer) && answer.kind === 'answered' && answer.status === 403;
}

/**
 * What conditions of one namespace need to be evaluated, read from the cluster now: ServiceProfiles and TrafficSplits only
 * where one of the conditions looks at them.
 */
export async function viewFor(
  client: KubeClient,
  namespace: string,
  conditions: readonly Condition[],
): Promise<{ kind: 'read'; view: ClusterView } | Outcome> {
  const list = (apiVersion: string, kind: string, labelSelector?: string) =>
    listAll(client, apiVersion, kind, namespace, { labelSelector, keep: essenceOf });
  const split = conditions.flatMap(splitOf)[0];
  const [services, slices, pods, replicaSets, profiles, deployments, splits] = await Promise.all([
    list('v1', 'Service', deploymentKey),
    list('discovery.k8s.io/v1', 'EndpointSlice', deploymentKey),
    conditions.some(isOfEveryPod) ? list('v1', 'Pod') : list('v1', 'Pod', hashKey),
    list('apps/v1', 'ReplicaSet', deploymentKey),
    conditions.some(isOfMesh) ? list('linkerd.io/v1alpha2', 'ServiceProfile') : [],
    conditions.some(isOfDeployments) ? list('apps/v1', 'Deployment') : [],
    split === undefined ? [] : list(split, 'TrafficSplit', deploymentKey),
  ]);
  if (!Array.isArray(services)) return services;
  if (!Array.isArray(slices)) return slices;
  if (!Array.isArray(pods)) return pods;
  if (!Array.isArray(replicaSets)) return replicaSets;
  if (!Array.isArray(profiles)) return profiles;
  if (!Array.isArray(splits)) return splits;
  if (!Array.isArray(deployments)) return deployments;
  const named = (list: KubernetesObject[], name: string) => list.find(({ metadata }) => metadata.name === name);
  const view: ClusterView = {
    service: (_, name) => named(services, name),
    endpointSlices: (_, service) => slices.filter((slice) => slice.metadata.labels?.[serviceNameLabel] === service),
    pods: (_, hash) => pods.filter((pod) => pod.metadata.labels?.[hashKey] === hash),
    replicaSet: (_, name) => named(replicaSets, name),
    replicaFailure: (_, hash) =>
      replicaSets
        .filter(({ metadata }) => metadata.labels?.[hashKey] === hash)
        .flatMap((one) => replicaFailureOf(one) ?? [])[0],
    trafficSplit: (_, name) => named(splits, name),
    shownUpTo: () => null,
    deployment: (_, name) => named(deployments, name),
    deployments: () => deployments,
    everyPod: () => pods,
    serviceProfile: (_, service) => profiles.find((profile) => isProfileOf(profile, namespace, service)),
  };
  return { kind: 'read', view };
}

/** The API version of the TrafficSplit that a condition looks at. */
function splitOf(condition: Condition): string[] {
  if (condition.kind !== 'changed' || condition.object.kind !== 'TrafficSplit') return [];
  return [condition.object.apiVersion];
}

/** Whether a condition looks at ServiceProfiles. */
function isOfMesh(condition: Condition): boolean {
  return condition.kind === 'mesh' || condition.kind === 'meshDropped';
}

/** Whether a condition looks at pods without a mark of ours. */
function isOfEveryPod({ kind }: Condition): boolean {
  return kind === 'noStrangers';
}

/** Label of an EndpointSlice that names its Service (discovery.k8s.io/v1). */
export const serviceNameLabel = 'kubernetes.io/service-name';

/** ServiceProfiles are named `<service>.<namespace>.svc.<cluster domain>`. */
function isProfileOf(profile: KubernetesObject, namespace: string, service: string): boolean {
  return profile.metadata.name.startsWith(`${service}.${namespace}.svc.`);
}

const shared = new WeakMap<KubeClient, SharedAnswers>();

function sharedBy(client: KubeClient): SharedAnswers {
  let answers = shared.get(client);
  if (!answers) {
    answers = createSharedAnswers();
    shared.set(client, answers);
  }
  return answers;
}

/** All objects of a kind in a namespace, each as `keep` leaves it; none where the cluster does not serve the kind. */
async function listAll(
  client: KubeClient,
  apiVersion: string,
  kind: string,
  namespace: string,
  { labelSelector, keep }: { labelSelector: string | undefined; keep(object: KubernetesObject): KubernetesObject },
): Promise<KubernetesObject[] | Outcome> {
  const resource = await client.findResource(apiVersion, kind);
  if (resource.kind === 'absent') return noneOf(apiVersion, kind);
  if (resource.kind !== 'found') return resource;
  const { plural } = resource;
  const question = JSON.stringify([apiVersion, plural, namespace, labelSelector, keep.name]);
  const listed = await sharedBy(client).ask(question, () =>
    client.list({ apiVersion, plural, namespace }, { labelSelector, keep }),
  );
  if (listed.kind !== 'listed') return listed;
  const other = listed.objects.find((object) => object.kind !== kind || object.apiVersion !== apiVersion);
  return other ? misunderstood(`asked for ${kind} objects, the server listed others`) : listed.objects;
}

async function getObject(client: KubeClient, { apiVersion, kind, metadata }: KubernetesObject): Promise<Got | Outcome> {
  const resource = await client.findResource(apiVersion, kind);
  if (resource.kind === 'absent') return { kind: 'got', object: undefined, isUnserved: true };
  if (resource.kind !== 'found') return resource;
  const namespace = resource.namespaced ? metadata.namespace : undefined;
  const { name } = metadata;
  const outcome = await client.get({ apiVersion, plural: resource.plural, namespace, name });
  const understood = understand(outcome, { apiVersion, kind, name, ...(namespace === undefined ? {} : { namespace }) });
  if (understood.kind === 'gone') return got(undefined);
  return understood.kind === 'object' ? got(understood.object) : understood;
}

/** API versions without which there is no cluster: to take them for not served would be to see nothing of what runs there. */
const builtIn = ['v1', 'apps/v1', 'discovery.k8s.io/v1'];

/** The objects of a kind that a cluster does not serve. */
function noneOf(apiVersion: string, kind: string): [] | Outcome {
  return builtIn.includes(apiVersion) ? misunderstood(`the cluster does not serve ${kind} of ${apiVersion}`) : [];
}

type Got = {
  kind: 'got';
  object: KubernetesObject | undefined;
  /** There is none, because the cluster does not serve its kind. */
  isUnserved?: true;
};

function got(object: KubernetesObject | undefined): Got {
  return { kind: 'got', object };
}

function objectOf(answer: Got | Outcome): KubernetesObject | undefined {
  return answer.kind === 'got' ? answer.object : undefined;
}

import type { ClusterView } from '@cdaas/pipeline/conditions.ts';
import type { Condition, MeshConfirmation } from '@cdaas/pipeline/deployment-state.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { deploymentKey, hashKey, instanceKey } from '@cdaas/pipeline/marks.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import type { Surroundings } from '@cdaas/pipeline/preflight-look.ts';
import { chooseSplitApiVersion, splitGroup } from '@cdaas/pipeline/traffic/smi.ts';
import type { KubeClient } from './kube.ts';
import { toObject } from './kube-answer.ts';
import type { Outcome } from './kube-exchange.ts';

/** Reads of a cluster that are made of several requests. Each answers what it read, or the first outcome that failed. */

type Asked = {
  instance: string;
  meshConfirmation: MeshConfirmation;
  finalAmong(deploymentIds: string[]): Promise<ReadonlySet<string>>;
};

/** Everything that a preflight looks at (design.md, "Preflight P"); or what the credential may not do of it, in words. */
export async function readSurroundings(
  client: KubeClient,
  plan: DeploymentPlan,
  asked: Asked,
): Promise<{ kind: 'read'; surroundings: Surroundings } | { kind: 'forbidden'; rights: string[] } | Outcome> {
  const { namespace } = plan;
  const served = await client.servedVersions(splitGroup);
  if (served.kind !== 'served') return served;
  const splitApiVersion = chooseSplitApiVersion(served.versions);
  const splitSchema =
    splitApiVersion === undefined ? undefined : await client.findSchema(splitApiVersion, 'TrafficSplit');
  const lists = await Promise.all([
    listAll(client, 'v1', 'Service', namespace),
    listAll(client, 'v1', 'Pod', namespace),
    listAll(client, 'apps/v1', 'ReplicaSet', namespace, deploymentKey),
    splitApiVersion === undefined ? [] : listAll(client, splitApiVersion, 'TrafficSplit', namespace),
    listAll(client, 'linkerd.io/v1alpha2', 'ServiceProfile', namespace),
    listAll(client, 'autoscaling/v2', 'HorizontalPodAutoscaler', namespace),
    listAll(client, 'keda.sh/v1alpha1', 'ScaledObject', namespace),
  ]);
  const rights = lists.flatMap((list, index) => (isForbidden(list) ? [`list ${listedResources[index]}`] : []));
  if (rights.length > 0) return { kind: 'forbidden', rights };
  const failedList = lists.find((list) => !Array.isArray(list));
  if (failedList && !Array.isArray(failedList)) return failedList;
  const [services, pods, replicaSets, splits, profiles, hpas, scaledObjects] = lists as KubernetesObject[][];
  if (!services || !pods || !replicaSets || !splits || !profiles || !hpas || !scaledObjects) {
    throw new Error('a list is missing from the preflight');
  }
  const known = new Map(services.map((service) => [service.metadata.name, service]));
  const existing = await Promise.all(
    plan.objects.map((object) =>
      object.apiVersion === 'v1' && object.kind === 'Service' && object.metadata.namespace === namespace
        ? got(known.get(object.metadata.name))
        : getObject(client, object),
    ),
  );
  const deployments = await Promise.all(plan.workloads.map(({ manifest }) => getObject(client, manifest)));
  for (const [index, found] of [...existing, ...deployments].entries()) {
    const kind = plan.objects[index]?.kind ?? 'Deployment';
    if (isForbidden(found)) return { kind: 'forbidden', rights: [`get ${kind} objects`] };
    if (found.kind !== 'got') return found;
  }
  const marked = [...services, ...splits]
    .filter(({ metadata }) => metadata.annotations?.[instanceKey] === asked.instance)
    .flatMap(({ metadata }) => metadata.labels?.[deploymentKey] ?? []);
  return {
    kind: 'read',
    surroundings: {
      services,
      pods,
      replicaSets,
      splits,
      serviceProfiles: profiles,
      deployments: deployments.map(objectOf),
      autoscalers: [...hpas, ...scaledObjects],
      existing: existing.map(objectOf),
      splitApiVersion,
      splitSchema,
      meshConfirmation: asked.meshConfirmation,
      instance: asked.instance,
      finalDeployments: marked.length === 0 ? new Set() : await asked.finalAmong(marked),
    },
  };
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
];

function isForbidden(answer: KubernetesObject[] | Got | Outcome): boolean {
  return !Array.isArray(answer) && answer.kind === 'answered' && answer.status === 403;
}

/** What the conditions of one namespace need to be evaluated, read from the cluster now. `mesh`: ServiceProfiles too. */
export async function viewFor(
  client: KubeClient,
  namespace: string,
  mesh: boolean,
): Promise<{ kind: 'read'; view: ClusterView } | Outcome> {
  const [services, slices, pods, replicaSets, profiles] = await Promise.all([
    listAll(client, 'v1', 'Service', namespace, deploymentKey),
    listAll(client, 'discovery.k8s.io/v1', 'EndpointSlice', namespace, deploymentKey),
    listAll(client, 'v1', 'Pod', namespace, hashKey),
    listAll(client, 'apps/v1', 'ReplicaSet', namespace, deploymentKey),
    mesh ? listAll(client, 'linkerd.io/v1alpha2', 'ServiceProfile', namespace) : [],
  ]);
  if (!Array.isArray(services)) return services;
  if (!Array.isArray(slices)) return slices;
  if (!Array.isArray(pods)) return pods;
  if (!Array.isArray(replicaSets)) return replicaSets;
  if (!Array.isArray(profiles)) return profiles;
  const named = (list: KubernetesObject[], name: string) => list.find(({ metadata }) => metadata.name === name);
  const view: ClusterView = {
    service: (_, name) => named(services, name),
    endpointSlices: (_, service) => slices.filter((slice) => slice.metadata.labels?.[serviceNameLabel] === service),
    pods: (_, hash) => pods.filter((pod) => pod.metadata.labels?.[hashKey] === hash),
    replicaSet: (_, name) => named(replicaSets, name),
    serviceProfile: (_, service) => profiles.find((profile) => isProfileOf(profile, namespace, service)),
  };
  return { kind: 'read', view };
}

/** Whether a condition looks at ServiceProfiles. */
export function isOfMesh(condition: Condition): boolean {
  return condition.kind === 'mesh' || condition.kind === 'meshDropped';
}

/** Label of an EndpointSlice that names its Service (discovery.k8s.io/v1). */
export const serviceNameLabel = 'kubernetes.io/service-name';

/** ServiceProfiles are named `<service>.<namespace>.svc.<cluster domain>`. */
function isProfileOf(profile: KubernetesObject, namespace: string, service: string): boolean {
  return profile.metadata.name.startsWith(`${service}.${namespace}.svc.`);
}

/** All objects of a kind in a namespace; none where the cluster does not serve the kind. */
async function listAll(
  client: KubeClient,
  apiVersion: string,
  kind: string,
  namespace: string,
  labelSelector?: string,
): Promise<KubernetesObject[] | Outcome> {
  const resource = await client.findResource(apiVersion, kind);
  if (resource.kind === 'absent') return [];
  if (resource.kind !== 'found') return resource;
  const listed = await client.list({ apiVersion, plural: resource.plural, namespace }, { labelSelector });
  return listed.kind === 'listed' ? listed.objects : listed;
}

async function getObject(client: KubeClient, { apiVersion, kind, metadata }: KubernetesObject): Promise<Got | Outcome> {
  const resource = await client.findResource(apiVersion, kind);
  if (resource.kind === 'absent') return got(undefined);
  if (resource.kind !== 'found') return resource;
  const namespace = resource.namespaced ? metadata.namespace : undefined;
  const outcome = await client.get({ apiVersion, plural: resource.plural, namespace, name: metadata.name });
  if (outcome.kind === 'answered' && outcome.status === 404) return got(undefined);
  if (outcome.kind !== 'answered' || outcome.status >= 300) return outcome;
  return got(toObject(outcome.body));
}

type Got = { kind: 'got'; object: KubernetesObject | undefined };

function got(object: KubernetesObject | undefined): Got {
  return { kind: 'got', object };
}

function objectOf(answer: Got | Outcome): KubernetesObject | undefined {
  return answer.kind === 'got' ? answer.object : undefined;
}

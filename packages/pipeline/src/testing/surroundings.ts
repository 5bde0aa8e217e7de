import { outlineOf } from '../deployment-state.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { deploymentKey, instanceKey } from '../marks.ts';
import type { DeploymentPlan } from '../plan.ts';
import { survey } from '../preflight.ts';
import type { Surroundings } from '../preflight-look.ts';
import { createModelCluster, surroundingsOf } from './model-cluster.ts';
import {
  hashesOf,
  instance,
  namespace,
  newId,
  oldId,
  rootService,
  sampleObjects,
  samplePairs,
  samplePlan,
} from './samples.ts';
import { settle } from './world.ts';

/* What a preflight finds, for tests of its rows. */

/** The cluster as a preflight reads it, with the previous version running, changed as a case needs. */
function seenBy(
  plan: DeploymentPlan,
  change: (seen: Surroundings) => void = () => {},
  objects = sampleObjects({ given: plan.routes.some(({ canaryServiceGiven }) => canaryServiceGiven) }),
) {
  const cluster = createModelCluster(objects);
  settle(cluster);
  const finalDeployments = new Set([oldId]);
  const seen = surroundingsOf(cluster, plan.objects, { meshConfirmation: 'linkerd-smi', instance, finalDeployments });
  const copy = structuredClone(seen);
  copy.existing = plan.objects.map(({ kind, metadata }) =>
    [...copy.services, ...objects].find((object) => object.kind === kind && object.metadata.name === metadata.name),
  );
  change(copy);
  return copy;
}

export function look(plan: DeploymentPlan, change?: (seen: Surroundings) => void, objects?: KubernetesObject[]) {
  const hashes = plan.workloads.map(({ name }) => hashesOf(name).new);
  return survey(plan, { id: newId, hashes, outline: outlineOf(plan) }, seenBy(plan, change, objects));
}

export function rootOf(seen: Surroundings): { spec: Record<string, unknown>; metadata: KubernetesObject['metadata'] } {
  return seen.services.find(({ metadata }) => metadata.name === 'web') as never;
}

export function split(
  name: string,
  fields: { labels?: object; annotations?: object; service?: string } = {},
): KubernetesObject {
  const { labels = {}, annotations = {}, service = 'web' } = fields;
  return {
    apiVersion: 'split.smi-spec.io/v1alpha2',
    kind: 'TrafficSplit',
    metadata: { name, namespace, uid: 'u', resourceVersion: 'r', labels, annotations } as KubernetesObject['metadata'],
    spec: { service, backends: [] },
  };
}

export function profile(overrides: [string, string][], annotations = {}): KubernetesObject {
  return {
    apiVersion: 'linkerd.io/v1alpha2',
    kind: 'ServiceProfile',
    metadata: { name: 'web.shop-qa.svc.cluster.local', namespace, annotations },
    spec: { dstOverrides: overrides.map(([service, weight]) => ({ authority: `${service}.shop-qa.svc`, weight })) },
  };
}

export const ours = { labels: { [deploymentKey]: oldId }, annotations: { [instanceKey]: instance } };
export const canaryService = (fields: { labels?: object; annotations?: object }): KubernetesObject => ({
  ...rootService(),
  metadata: {
    name: 'web-canary',
    namespace,
    uid: 'u',
    resourceVersion: 'r',
    ...fields,
  } as KubernetesObject['metadata'],
});

/** Two Deployments of one team, each with its root Service; the label of the team selects both. */
export const teamPlan = samplePlan({ pairs: samplePairs.two });
for (const { manifest } of teamPlan.workloads) {
  const spec = manifest.spec as { template: { metadata: { labels: Record<string, string> } } };
  spec.template.metadata.labels.team = 'shop';
}

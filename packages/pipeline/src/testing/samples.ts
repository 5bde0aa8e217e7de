import type { KubernetesObject } from '../kubernetes.ts';
import { annotationKeys, deploymentKey, hashKey } from '../marks.ts';
import type { DeploymentPlan, StrategyStep } from '../plan.ts';

/** Plans and clusters that tests begin with: application shop in namespace `shop-qa`, Deployment and Service `web`. */

export const namespace = 'shop-qa';
export const newHash = 'newhash001';
export const oldHash = 'oldhash001';
export const newId = 'deployment-2';
export const oldId = 'deployment-1';
export const instance = 'instance-1';

/**
 * A root Service and the Deployment that it leads to. `first`: no earlier version of it runs. `object`: a Deployment object
 * stands there, a plain one that is not ours, or one that the earlier run kept.
 */
export type SamplePair = { root: string; deployment: string; first?: boolean; object?: 'plain' | 'kept' };

export type SampleOptions = {
  steps?: StrategyStep[];
  replicas?: number;
  /** The file names the canary Services. */
  given?: boolean;
  /** The file holds the root Services, alone or with a ConfigMap that exists and one that does not. */
  objects?: boolean | 'roots';
  /** In the order of their root Services. */
  pairs?: SamplePair[];
  /** No earlier version of anything runs. */
  first?: boolean;
  /** The file asks for Deployment objects in the end. */
  keep?: boolean;
};

const web: SamplePair = { root: 'web', deployment: 'web' };

/** Targets of several pairs. */
export const samplePairs = {
  /** Two Deployments, each with its root Service. */
  two: [{ root: 'api', deployment: 'api' }, web],
  /** One of them comes for the first time. */
  mixed: [{ root: 'api', deployment: 'api', first: true }, web],
  /** Two root Services of one Deployment. */
  shared: [{ root: 'admin', deployment: 'web' }, web],
  three: [{ root: 'admin', deployment: 'web' }, { root: 'api', deployment: 'api' }, web],
} satisfies Record<string, SamplePair[]>;

/** The hash labels of a Deployment's two versions. */
export function hashesOf(deployment: string): { new: string; old: string } {
  if (deployment === 'web') return { new: newHash, old: oldHash };
  return { new: `${deployment}new001`, old: `${deployment}old001` };
}

/** The Deployments of some pairs, in the order of their names. */
export function deploymentsOf(pairs: SamplePair[] = [web]): string[] {
  return [...new Set(pairs.map(({ deployment }) => deployment))].sort();
}

export function samplePlan(options: SampleOptions = {}) {
  const { steps = [], replicas = 2, given = false, objects = false, pairs = [web] } = options;
  const plan: DeploymentPlan = {
    application: 'shop',
    target: 'qa',
    account: 'east',
    namespace,
    workloads: deploymentsOf(pairs).map((name) => ({ name, replicas, manifest: deploymentManifest(name, replicas) })),
    routes: pairs.map(({ root }) => ({
      rootServiceName: root,
      canaryServiceName: given ? `${root}-next` : `${root}-canary`,
      canaryServiceGiven: given,
      trafficSplitName: root,
    })),
    objects: [
      ...(objects === true ? [configMap('settings', 'new'), configMap('extra', 'new')] : []),
      ...(objects === false ? [] : pairs.map((pair) => rootService(pair))),
    ],
    steps,
    readyTimeoutSeconds: 1800,
    drainSeconds: 5,
    ...(options.keep ? { keepDeploymentObject: true } : {}),
  };
  return plan;
}

function deploymentManifest(name: string, replicas: number): KubernetesObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name, image: `${name}:2` }] },
      },
    },
  };
}

export function rootService({ root, deployment }: SamplePair = web): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: root, namespace },
    spec: {
      selector: { app: deployment },
      ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' }],
    },
  };
}

export function configMap(name: string, value: string): KubernetesObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { value } };
}

/** What stands in the cluster before the run: the previous versions behind their roots, and things of others. */
export function sampleObjects({ pairs = [web], given = false, first = false }: SampleOptions = {}): KubernetesObject[] {
  const bystander: KubernetesObject = {
    ...rootService(),
    metadata: { name: 'bystander', namespace },
    spec: { selector: { app: 'other' }, ports: [{ port: 80 }] },
  };
  const canaries = given ? pairs.map((pair) => ({ ...pair, root: `${pair.root}-next` })) : [];
  const previous = first ? [] : pairs.filter((pair) => pair.first !== true && pair.object !== 'plain');
  const objectOf = (kind: SamplePair['object']) => deploymentsOf(pairs.filter(({ object }) => object === kind));
  return [
    ...[...pairs, ...canaries].map((pair) => rootService(pair)),
    configMap('settings', 'old'),
    configMap('bystander', 'untouched'),
    bystander,
    ...deploymentsOf(previous).map((name) => {
      const replicaSet = oldReplicaSet(2, name);
      if (!objectOf('kept').includes(name)) return replicaSet;
      const labels = { ...replicaSet.metadata.labels, app: name };
      return { ...replicaSet, metadata: { ...replicaSet.metadata, labels } };
    }),
    ...objectOf('plain').flatMap((name) => [plainDeployment(name), oldRevision(name)]),
    ...objectOf('kept').flatMap((name) => [keptDeployment(name), oldRevision(name)]),
  ];
}

/** As people apply it. */
export function plainDeployment(name = 'web'): KubernetesObject {
  const manifest = deploymentManifest(name, 2);
  const labels = { app: name };
  const template = { metadata: { labels }, spec: { containers: [{ name, image: `${name}:1` }] } };
  return { ...manifest, metadata: { name, namespace }, spec: { ...(manifest.spec as object), template } };
}

/** As a run left it over the ReplicaSet of its version. */
function keptDeployment(name: string): KubernetesObject {
  const { metadata, spec } = oldReplicaSet(2, name);
  const { template } = spec as { template: object };
  const manifest = deploymentManifest(name, 2);
  const { annotations = {} } = metadata;
  return {
    ...manifest,
    metadata: { ...manifest.metadata, annotations },
    spec: { ...(manifest.spec as object), template },
  };
}

/** What a Deployment keeps of a version before. */
function oldRevision(name: string): KubernetesObject {
  const labels = { app: name, 'pod-template-hash': 'k9' };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: `${name}-k9`, namespace, labels },
    spec: {
      replicas: 0,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name, image: `${name}:0` }] } },
    },
  };
}

export function oldReplicaSet(replicas: number, deployment = 'web'): KubernetesObject {
  const hash = hashesOf(deployment).old;
  const labels = { app: deployment, [hashKey]: hash };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `${deployment}-${hash}`,
      namespace,
      labels: { [deploymentKey]: oldId, [hashKey]: hash },
      annotations: {
        [annotationKeys.application]: 'shop',
        [annotationKeys.environment]: 'qa',
        [annotationKeys.deploymentId]: oldId,
      },
    },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: deployment, image: `${deployment}:1` }] } },
    },
  };
}

import type { KubernetesObject } from '../kubernetes.ts';
import { annotationKeys, deploymentKey, hashKey } from '../marks.ts';
import type { DeploymentPlan, StrategyStep } from '../plan.ts';

/** Plans and clusters that tests begin with: application shop, Deployment and Service `web` in namespace `shop-qa`. */

export const namespace = 'shop-qa';
export const newHash = 'newhash001';
export const oldHash = 'oldhash001';
export const newId = 'deployment-2';
export const oldId = 'deployment-1';
export const instance = 'instance-1';

export type SampleOptions = {
  steps?: StrategyStep[];
  replicas?: number;
  /** The file names the canary Service. */
  given?: boolean;
  /** The file holds the root Service and a ConfigMap that exists, and a ConfigMap that does not. */
  objects?: boolean;
};

export function samplePlan({ steps = [], replicas = 2, given = false, objects = false }: SampleOptions = {}) {
  const canaryServiceName = given ? 'web-next' : 'web-canary';
  const plan: DeploymentPlan = {
    application: 'shop',
    target: 'qa',
    account: 'east',
    namespace,
    workload: { name: 'web', replicas, manifest: deploymentManifest(replicas) },
    route: { rootServiceName: 'web', canaryServiceName, canaryServiceGiven: given, trafficSplitName: 'web' },
    objects: objects ? [configMap('settings', 'new'), configMap('extra', 'new'), rootService()] : [],
    steps,
    readyTimeoutSeconds: 1800,
    drainSeconds: 5,
  };
  return plan;
}

function deploymentManifest(replicas: number): KubernetesObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace, labels: { app: 'web' } },
    spec: {
      replicas,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'web', image: 'web:2' }] },
      },
    },
  };
}

export function rootService(): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace },
    spec: {
      selector: { app: 'web' },
      ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' }],
    },
  };
}

export function configMap(name: string, value: string): KubernetesObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { value } };
}

/** What stands in the cluster before the run: the previous version behind `web`, and things of others. */
export function sampleObjects(plan: DeploymentPlan, { first = false } = {}): KubernetesObject[] {
  const bystander: KubernetesObject = {
    ...rootService(),
    metadata: { name: 'bystander', namespace },
    spec: { selector: { app: 'other' }, ports: [{ port: 80 }] },
  };
  const objects = [rootService(), configMap('settings', 'old'), configMap('bystander', 'untouched'), bystander];
  if (plan.route.canaryServiceGiven) {
    objects.push({ ...rootService(), metadata: { name: plan.route.canaryServiceName, namespace } });
  }
  return first ? objects : [...objects, oldReplicaSet(2)];
}

export function oldReplicaSet(replicas: number): KubernetesObject {
  const labels = { app: 'web', [hashKey]: oldHash };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `web-${oldHash}`,
      namespace,
      labels: { [deploymentKey]: oldId, [hashKey]: oldHash },
      annotations: {
        [annotationKeys.application]: 'shop',
        [annotationKeys.environment]: 'qa',
        [annotationKeys.deploymentId]: oldId,
      },
    },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'web', image: 'web:1' }] } },
    },
  };
}

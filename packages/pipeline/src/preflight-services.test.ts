import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { KubernetesObject } from './kubernetes.ts';
import { hashKey } from './marks.ts';
import type { DeploymentPlan } from './plan.ts';
import type { Surroundings } from './preflight-look.ts';
import { namespace, oldHash, rootService, sampleObjects, samplePairs, samplePlan } from './testing/samples.ts';
import { canaryService, look, rootOf, teamPlan } from './testing/surroundings.ts';

type Row = {
  name: string;
  plan?: DeploymentPlan;
  change: (seen: Surroundings) => void;
  object: string;
  message: RegExp;
};

const given = samplePlan({ given: true });
const rootName = 'Service shop-qa/web';

function withRoot(spec: object): DeploymentPlan {
  const root = rootService();
  return { ...samplePlan(), objects: [{ ...root, spec: { ...(root.spec as object), ...spec } }] };
}

const rows: Row[] = [
  {
    name: 'root is neither in the cluster nor in the manifests',
    change: (seen) => {
      seen.services = [];
    },
    object: rootName,
    message: /neither in the cluster nor in the manifests; add it/,
  },
  {
    name: 'root is driven by another control plane',
    change: (seen) => {
      rootOf(seen).metadata.annotations = { 'cdaas/instance': 'another' };
    },
    object: rootName,
    message: /another control plane; wait until/,
  },
  {
    name: 'root is driven by a deployment that is not over',
    change: (seen) => {
      rootOf(seen).metadata.labels = { 'cdaas/deployment': 'somebody' };
    },
    object: rootName,
    message: /driven by deployment somebody; wait until/,
  },
  {
    name: 'root is headless',
    change: (seen) => {
      rootOf(seen).spec.clusterIP = 'None';
    },
    object: rootName,
    message: /headless.*use a Service with a cluster IP/,
  },
  {
    name: 'root is an ExternalName',
    change: (seen) => {
      rootOf(seen).spec.type = 'ExternalName';
    },
    object: rootName,
    message: /ExternalName.*name a Service with a selector/,
  },
  {
    name: 'root has no selector',
    change: (seen) => {
      delete rootOf(seen).spec.selector;
    },
    object: rootName,
    message: /no selector.*give it the labels/,
  },
  {
    name: 'root publishes pods that are not ready',
    change: (seen) => {
      rootOf(seen).spec.publishNotReadyAddresses = true;
    },
    object: rootName,
    message: /set publishNotReadyAddresses to false/,
  },
  {
    name: 'root is pinned already',
    change: (seen) => {
      rootOf(seen).spec.selector = { app: 'web', [hashKey]: oldHash };
    },
    object: rootName,
    message: /already holds armory-pod-template-hash; remove it: kubectl -n shop-qa patch service web --type merge -p/,
  },
  {
    name: 'root would not select the new pods',
    change: (seen) => {
      rootOf(seen).spec.selector = { app: 'web', tier: 'front' };
    },
    object: rootName,
    message: /does not select the pods of a Deployment in the manifests; make its selector match/,
  },
  {
    name: 'root selects a pod of somebody else',
    change: (seen) => {
      const stray = structuredClone(seen.pods[0] as KubernetesObject);
      stray.metadata = { ...stray.metadata, name: 'stray', labels: { app: 'web' } };
      seen.pods.push(stray);
    },
    object: rootName,
    message: /selects pods that are not of the previous version: stray; remove them or narrow its selector/,
  },
  {
    name: 'a Service of this file would lose the old pods',
    plan: withRoot({ selector: { app: 'web', track: 'two' } }),
    change: (seen) => {
      for (const pod of seen.pods) pod.metadata.labels = { ...pod.metadata.labels };
    },
    object: rootName,
    message: /no longer match the old pods; deploy this Service change on its own first/,
  },
  {
    name: 'a Service of this file would lose its selector',
    plan: withRoot({ selector: undefined }),
    change: () => {},
    object: rootName,
    message: /no longer match the old pods; deploy this Service change on its own first/,
  },
  {
    name: 'another Service of this file would lose the old pods',
    plan: { ...samplePlan(), objects: [{ ...rootService(), metadata: { name: 'admin', namespace } }] },
    change: (seen) => {
      const admin = { ...rootService(), metadata: { name: 'admin', namespace }, spec: { selector: { app: 'web' } } };
      seen.existing = [{ ...admin, spec: { selector: { [hashKey]: oldHash } } }];
      for (const pod of seen.pods) pod.metadata.labels = { [hashKey]: oldHash };
    },
    object: 'Service shop-qa/admin',
    message: /no longer match the old pods/,
  },
  {
    name: 'a Service of this file would lose a port',
    plan: withRoot({ ports: [{ port: 81 }] }),
    change: () => {},
    object: rootName,
    message: /port 80 is removed or leads elsewhere; deploy this Service change on its own first/,
  },
  {
    name: 'a port of a Service of this file would lead elsewhere',
    plan: withRoot({ ports: [{ name: 'http', port: 80, targetPort: 9090 }] }),
    change: () => {},
    object: rootName,
    message: /port 80 is removed or leads elsewhere/,
  },
  {
    name: 'a port of a Service of this file would change its protocol',
    plan: withRoot({ ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'UDP' }] }),
    change: () => {},
    object: rootName,
    message: /port 80 is removed or leads elsewhere/,
  },
  {
    name: 'the canary Service of the file does not exist',
    plan: given,
    change: (seen) => {
      seen.services = seen.services.filter(({ metadata }) => metadata.name !== 'web-next');
    },
    object: 'Service shop-qa/web-next',
    message: /named as canaryServiceName but does not exist; create it or leave canaryServiceName out/,
  },
  {
    name: 'that canary Service lacks a port of root',
    plan: given,
    change: (seen) => {
      const canary = seen.services.find(({ metadata }) => metadata.name === 'web-next') as KubernetesObject;
      canary.spec = { selector: { app: 'web' }, ports: [{ port: 8080 }] };
    },
    object: 'Service shop-qa/web-next',
    message: /lacks port 80 of the root Service; add it/,
  },
  {
    name: 'that canary Service cannot select the new pods',
    plan: given,
    change: (seen) => {
      const canary = seen.services.find(({ metadata }) => metadata.name === 'web-next') as KubernetesObject;
      canary.spec = { selector: { app: 'other' }, ports: [{ port: 80 }] };
    },
    object: 'Service shop-qa/web-next',
    message: /cannot select the new pods; make its selector match/,
  },
  {
    name: 'that canary Service is pinned already',
    plan: given,
    change: (seen) => {
      const canary = seen.services.find(({ metadata }) => metadata.name === 'web-next') as KubernetesObject;
      canary.spec = { selector: { app: 'web', [hashKey]: 'x' }, ports: [{ port: 80 }] };
    },
    object: 'Service shop-qa/web-next',
    message: /already holds armory-pod-template-hash; remove it: kubectl -n shop-qa patch service web-next/,
  },
  {
    name: 'a Service stands where the canary Service will be',
    change: (seen) => {
      seen.services.push(canaryService({}));
    },
    object: 'Service shop-qa/web-canary',
    message: /exists and is not ours; delete or rename it/,
  },
  {
    name: 'that canary Service is driven by another control plane',
    plan: given,
    change: (seen) => {
      const canary = seen.services.find(({ metadata }) => metadata.name === 'web-next') as KubernetesObject;
      canary.metadata.annotations = { 'cdaas/instance': 'another' };
    },
    object: 'Service shop-qa/web-next',
    message: /another control plane; wait until/,
  },
  {
    name: 'root selects the pods of two Deployments',
    plan: teamPlan,
    change: (seen) => {
      rootOf(seen).spec.selector = { team: 'shop' };
    },
    object: rootName,
    message: /selects the pods of several Deployments: api, web; narrow its selector to one/,
  },
];

describe('a preflight names the Service that is not fit and what to do', () => {
  for (const { name, plan = samplePlan(), change, object, message } of rows) {
    test(name, () => {
      const objects = plan.workloads.length > 1 ? sampleObjects({ pairs: samplePairs.two }) : undefined;
      const { problems } = look(plan, change, objects);
      const problem = problems.find((candidate) => message.test(candidate.message));
      assert.ok(problem, JSON.stringify(problems));
      assert.equal(problem.object, object);
    });
  }

  test('a Service of the file that only gains a port is no problem', () => {
    const root = rootService();
    const ports = [...(root.spec as { ports: object[] }).ports, { name: 'admin', port: 81 }];
    assert.deepEqual(look(withRoot({ ports })).problems, []);
  });
});

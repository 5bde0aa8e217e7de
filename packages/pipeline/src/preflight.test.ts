import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { KubernetesObject } from './kubernetes.ts';
import { annotationKeys, deploymentKey, hashKey, instanceKey } from './marks.ts';
import type { DeploymentPlan } from './plan.ts';
import type { Surroundings } from './preflight-look.ts';
import {
  configMap,
  namespace,
  oldHash,
  oldReplicaSet,
  rootService,
  sampleObjects,
  samplePairs,
  samplePlan,
} from './testing/samples.ts';
import { canaryService, look, ours, profile, rootOf, split, teamPlan } from './testing/surroundings.ts';

describe('a preflight without problems', () => {
  test('finds the previous version and what the run builds on', () => {
    const found = look(samplePlan());
    assert.deepEqual(found.problems, []);
    assert.deepEqual(found.warnings, []);
    assert.equal(found.workloads[0]?.mode, 'canary');
    assert.deepEqual(
      {
        name: found.workloads[0]?.old?.name,
        hash: found.workloads[0]?.old?.hash,
        pods: found.workloads[0]?.old?.pods,
        ready: found.workloads[0]?.old?.ready,
      },
      { name: `web-${oldHash}`, hash: oldHash, pods: 2, ready: 2 },
    );
    assert.ok(found.routes[0]?.root?.uid && found.routes[0].root.resourceVersion);
    assert.equal(found.routes[0].root.made, null);
    assert.equal(found.splitApiVersion, 'split.smi-spec.io/v1alpha2');
  });

  test('is a first deployment where no version of this application, target and Deployment runs', () => {
    assert.equal(look(samplePlan(), undefined, [rootService()]).workloads[0]?.mode, 'first');
    const others = oldReplicaSet(0);
    Object.assign(others.metadata.annotations ?? {}, { [annotationKeys.environment]: 'prod' });
    assert.deepEqual(look(samplePlan(), undefined, [rootService(), others]).workloads[0]?.old, null);
  });

  test('warns that an earlier version without pods is replaced without splitting traffic', () => {
    const found = look(samplePlan(), undefined, [rootService(), oldReplicaSet(0)]);
    assert.equal(found.workloads[0]?.mode, 'first');
    assert.match(found.warnings.join(), /replaced without splitting traffic/);
    assert.deepEqual(found.problems, []);
  });

  test('goes straight to the end where the new version asks for no pods', () => {
    const found = look(samplePlan({ replicas: 0 }));
    assert.equal(found.workloads[0]?.mode, 'first');
    assert.deepEqual(found.problems, []);
    assert.match(found.warnings.join(), /the new one asks for none/);
  });

  test('records an old version that is not ready, and allows it', () => {
    const found = look(samplePlan(), (seen) => {
      for (const pod of seen.pods) pod.status = { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }] };
    });
    assert.deepEqual([found.workloads[0]?.old?.pods, found.workloads[0]?.old?.ready, found.problems], [2, 0, []]);
  });

  test('takes root from the manifests where the cluster has none', () => {
    const plan = samplePlan({ objects: true });
    const found = look(plan, (seen) => {
      seen.services = seen.services.filter(({ metadata }) => metadata.name !== 'web');
      seen.existing = [seen.existing[0], undefined, undefined];
    });
    assert.deepEqual(found.problems, []);
    assert.equal(found.routes[0]?.root, null);
    assert.deepEqual(
      found.existing.map(({ index }) => index),
      [0],
    );
  });

  test('looks at root as it will be: a manifest without the pin takes the pin of an earlier run out', () => {
    const plan = samplePlan({ objects: true });
    const found = look(plan, (seen) => {
      rootOf(seen).spec.selector = { app: 'web', [hashKey]: oldHash };
    });
    assert.deepEqual(found.problems, []);
  });

  test('decides which Deployment each root leads to, whatever they are named', () => {
    const crossed = [
      { root: 'front', deployment: 'web' },
      { root: 'internal', deployment: 'api' },
      { root: 'public', deployment: 'api' },
    ];
    const found = look(samplePlan({ pairs: crossed }), undefined, sampleObjects({ pairs: crossed }));
    assert.deepEqual([found.problems, found.pairs], [[], [1, 0, 0]]);
    assert.deepEqual(
      found.workloads.map(({ mode, old }) => [mode, old?.name]),
      [
        ['canary', 'api-apiold001'],
        ['canary', `web-${oldHash}`],
      ],
    );
  });

  test('finds by Deployment whether there is an earlier version', () => {
    const mixed = [
      { root: 'api', deployment: 'api', first: true },
      { root: 'web', deployment: 'web' },
    ];
    const found = look(samplePlan({ pairs: mixed }), undefined, sampleObjects({ pairs: mixed }));
    assert.deepEqual(found.problems, []);
    assert.deepEqual(
      found.workloads.map(({ mode }) => mode),
      ['first', 'canary'],
    );
  });

  test('finds leftovers of ours whose deployment is over, what sends traffic first', () => {
    const found = look(samplePlan(), (seen) => {
      seen.services.push(canaryService(ours));
      seen.splits.push(split('web', ours));
    });
    assert.deepEqual(found.problems, []);
    assert.deepEqual(
      found.leftovers.map(({ slot }) => slot),
      ['split.0', 'canary.0'],
    );
  });
});

type Row = {
  name: string;
  plan?: DeploymentPlan;
  change: (seen: Surroundings) => void;
  object: string;
  message: RegExp;
};

const withObjects = samplePlan({ objects: true });
const rows: Row[] = [
  {
    name: 'two earlier versions have pods',
    change: (seen) => {
      const second = structuredClone(seen.replicaSets[0] as KubernetesObject);
      second.metadata = { ...second.metadata, name: 'web-otherhash1' };
      second.metadata.labels = { ...second.metadata.labels, [hashKey]: 'otherhash1' };
      seen.replicaSets.push(second);
    },
    object: 'ReplicaSet shop-qa/web',
    message: /several earlier versions have pods: web-oldhash001, web-otherhash1; scale all but one to 0/,
  },
  {
    name: 'a TrafficSplit of somebody else stands where ours will be',
    change: (seen) => {
      seen.splits.push(split('web'));
    },
    object: 'TrafficSplit shop-qa/web',
    message: /exists and is not ours; delete or rename it/,
  },
  {
    name: 'that TrafficSplit belongs to a deployment that is not over',
    change: (seen) => {
      seen.splits.push(split('web', { ...ours, labels: { [deploymentKey]: 'deployment-9' } }));
    },
    object: 'TrafficSplit shop-qa/web',
    message: /belongs to deployment deployment-9; wait until that is over/,
  },
  {
    name: 'that TrafficSplit belongs to another control plane',
    change: (seen) => {
      seen.splits.push(split('web', { ...ours, annotations: { [instanceKey]: 'instance-9' } }));
    },
    object: 'TrafficSplit shop-qa/web',
    message: /belongs to deployment deployment-1/,
  },
  {
    name: 'another TrafficSplit splits the same root',
    change: (seen) => {
      seen.splits.push(split('by-hand'));
    },
    object: 'TrafficSplit shop-qa/by-hand',
    message: /splits Service web already; a root Service can have one TrafficSplit/,
  },
  {
    name: 'another TrafficSplit splits the same root by its longer name',
    change: (seen) => {
      seen.splits.push(split('by-hand', { service: 'web.shop-qa.svc.cluster.local' }));
    },
    object: 'TrafficSplit shop-qa/by-hand',
    message: /splits Service web already/,
  },
  {
    name: 'a TrafficSplit of somebody else splits a root whose first version comes',
    plan: samplePlan({ replicas: 0 }),
    change: (seen) => {
      seen.splits.push(split('web'));
    },
    object: 'TrafficSplit shop-qa/web',
    message: /exists and is not ours; delete or rename it/,
  },
  {
    name: 'no root leads to a Deployment',
    plan: { ...teamPlan, routes: teamPlan.routes.slice(1) },
    change: () => {},
    object: 'Deployment shop-qa/api',
    message: /no root Service of trafficManagement selects its pods; add an smi entry for it/,
  },
  {
    name: 'root of one pair is skipped by the mesh',
    plan: teamPlan,
    change: (seen) => {
      const skipped = profile([], { 'smi.linkerd.io/skip': 'true' });
      seen.serviceProfiles.push({
        ...skipped,
        metadata: { ...skipped.metadata, name: 'api.shop-qa.svc.cluster.local' },
      });
    },
    object: 'ServiceProfile shop-qa/api.shop-qa.svc.cluster.local',
    message: /annotated smi\.linkerd\.io\/skip/,
  },
  {
    name: 'the mesh skips root’s ServiceProfile',
    change: (seen) => {
      seen.serviceProfiles.push(profile([], { 'smi.linkerd.io/skip': 'true' }));
    },
    object: 'ServiceProfile shop-qa/web.shop-qa.svc.cluster.local',
    message: /annotated smi\.linkerd\.io\/skip.*remove that annotation/,
  },
  {
    name: 'root’s ServiceProfile sends traffic somewhere already',
    change: (seen) => {
      seen.serviceProfiles.push(
        profile([
          ['web', '50'],
          ['elsewhere', '50'],
        ]),
      );
    },
    object: 'ServiceProfile shop-qa/web.shop-qa.svc.cluster.local',
    message: /already overrides where traffic goes \(spec\.dstOverrides\); remove them first/,
  },
  {
    name: 'an HPA scales the workload',
    change: (seen) => {
      const spec = { scaleTargetRef: { name: 'web' } };
      seen.autoscalers.push({
        apiVersion: 'autoscaling/v2',
        kind: 'HorizontalPodAutoscaler',
        metadata: { name: 'web', namespace },
        spec,
      });
    },
    object: 'HorizontalPodAutoscaler shop-qa/web',
    message: /not supported yet: it scales this workload; delete it before deploying/,
  },
  {
    name: 'a ScaledObject scales the previous ReplicaSet',
    change: (seen) => {
      const spec = { scaleTargetRef: { name: `web-${oldHash}` } };
      seen.autoscalers.push({
        apiVersion: 'keda.sh/v1alpha1',
        kind: 'ScaledObject',
        metadata: { name: 'web', namespace },
        spec,
      });
    },
    object: 'ScaledObject shop-qa/web',
    message: /not supported yet/,
  },
  {
    name: 'the cluster serves no TrafficSplits',
    change: (seen) => {
      seen.splitApiVersion = undefined;
    },
    object: 'cluster of account east',
    message: /does not serve TrafficSplits.*install the SMI extension/,
  },
];

describe('a preflight names what is in the way and what to do', () => {
  for (const { name, plan = samplePlan(), change, object, message } of rows) {
    test(name, () => {
      const objects = plan.workloads.length > 1 ? sampleObjects({ pairs: samplePairs.two }) : undefined;
      const { problems } = look(plan, change, objects);
      const problem = problems.find((candidate) => message.test(candidate.message));
      assert.ok(problem, JSON.stringify(problems));
      assert.equal(problem.object, object);
    });
  }

  test('all problems are told at once', () => {
    const { problems } = look(samplePlan(), (seen) => {
      rootOf(seen).spec.publishNotReadyAddresses = true;
      seen.splits.push(split('web'), split('by-hand'));
    });
    assert.equal(problems.length, 3);
  });

  test('an autoscaler of something else is no problem', () => {
    const found = look(samplePlan(), (seen) => {
      const spec = { scaleTargetRef: { name: 'api' } };
      seen.autoscalers.push({
        apiVersion: 'autoscaling/v2',
        kind: 'HorizontalPodAutoscaler',
        metadata: { name: 'api', namespace },
        spec,
      });
    });
    assert.deepEqual(found.problems, []);
  });
});

describe('a preflight warns', () => {
  test('of the stale weights 100/0 of an earlier split', () => {
    const { problems, warnings } = look(samplePlan(), (seen) => {
      seen.serviceProfiles.push(
        profile([
          ['web', '100'],
          ['web-canary', '0'],
        ]),
      );
    });
    assert.deepEqual(problems, []);
    assert.match(warnings.join(), /still has the weights 100\/0 of an earlier split; they are overwritten/);
  });

  test('of another Service that selects the new pods as well', () => {
    const { warnings } = look(samplePlan(), (seen) => {
      seen.services.push({ ...rootService(), metadata: { name: 'all', namespace } });
    });
    assert.match(warnings.join(), /Service all selects the new pods as well: it receives both versions unsplit/);
  });

  test('of a ConfigMap that old pods use and this run changes, not of one that stays as it is', () => {
    const uses = (name: string) => {
      const set = oldReplicaSet(2);
      const spec = set.spec as { template: { spec: Record<string, unknown> } };
      spec.template.spec.volumes = [{ name: 'it', configMap: { name } }];
      return [rootService(), set, configMap('settings', 'old'), configMap('extra', 'new')];
    };
    assert.match(
      look(withObjects, undefined, uses('settings')).warnings.join(),
      /ConfigMap settings is used by the old pods too/,
    );
    assert.deepEqual(look(withObjects, undefined, uses('extra')).warnings, []);
  });

  test('of a Secret that old pods use only where its content changes, in whatever form it is written', () => {
    const secret = (fields: object): KubernetesObject => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'keys', namespace },
      ...fields,
    });
    const set = oldReplicaSet(2);
    const spec = set.spec as { template: { spec: Record<string, unknown> } };
    spec.template.spec.volumes = [{ name: 'it', secret: { secretName: 'keys' } }];
    const stored = secret({ data: { key: btoa('old') } });
    const warned = (written: object) => {
      const plan = { ...samplePlan(), objects: [secret(written)] };
      return look(plan, undefined, [rootService(), set, stored]).warnings;
    };
    assert.deepEqual(warned({ stringData: { key: 'old' } }), []);
    assert.deepEqual(warned({ data: { key: btoa('old') } }), []);
    assert.match(warned({ stringData: { key: 'new' } }).join(), /Secret keys is used by the old pods too/);
  });

  test('of pods that somebody scaled, which the file would undo; a file that asks for another number means it', () => {
    const warned = (replicas: number, managers: [string, string?][]) => {
      const old = oldReplicaSet(replicas);
      old.metadata.managedFields = managers.map(([manager, subresource]) => ({
        manager,
        operation: 'Update',
        time: '2026-01-01T00:00:00Z',
        ...(subresource ? { subresource } : {}),
        fieldsV1: { 'f:spec': { 'f:replicas': {} } },
      }));
      return look(samplePlan(), undefined, [rootService(), old]).warnings;
    };
    assert.deepEqual(warned(5, [['kubectl', 'scale']]), [
      `web runs 5 pods (ReplicaSet shop-qa/web-${oldHash}, as kubectl (Update at 2026-01-01T00:00:00Z) asked for), the file asks for 2: that many the new version gets; for another number change replicas in the file`,
    ]);
    assert.match(warned(1, []).join(), /^web runs 1 pod \(ReplicaSet shop-qa\/web-\w+\), the file asks for 2/);
    assert.deepEqual(warned(5, [['cdaas'], ['kube-controller-manager', 'status']]), []);
    assert.deepEqual(warned(2, [['kubectl', 'scale']]), []);
  });
});

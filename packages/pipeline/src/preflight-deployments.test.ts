import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { KubernetesObject } from './kubernetes.ts';
import { annotationKeys, deploymentKey } from './marks.ts';
import {
  namespace,
  oldHash,
  oldId,
  oldReplicaSet,
  plainDeployment,
  sampleObjects,
  samplePlan,
} from './testing/samples.ts';
import { look } from './testing/surroundings.ts';

const plain = sampleObjects({ pairs: [{ root: 'web', deployment: 'web', object: 'plain' }] });
const kept = sampleObjects({ pairs: [{ root: 'web', deployment: 'web', object: 'kept' }] });
const words = ({ problems }: ReturnType<typeof look>) => problems.map(({ object, message }) => `${object}: ${message}`);

describe('a Deployment object of a workload’s name', () => {
  test('that is not ours is taken over, with all its ReplicaSets, and people are told that steps are skipped', () => {
    const found = look(samplePlan(), undefined, plain);
    const [workload] = found.workloads;
    assert.deepEqual(found.problems, []);
    assert.deepEqual([workload?.mode, workload?.old], ['adopt', null]);
    assert.deepEqual(
      workload?.deployment?.replicaSets.map(({ name, replicas }) => [name, replicas]),
      [
        ['web-k1', 2],
        ['web-k9', 0],
      ],
    );
    assert.match(found.warnings.join(), /Deployment shop-qa\/web is taken over.*steps of the strategy are skipped/);
  });

  test('that an earlier run kept is the previous version: a canary', () => {
    const found = look(samplePlan(), undefined, kept);
    const [workload] = found.workloads;
    assert.deepEqual([found.problems, found.warnings], [[], []]);
    assert.deepEqual(
      [workload?.mode, workload?.old?.name, workload?.old?.labels, workload?.deployment?.ownsOld],
      ['canary', `web-${oldHash}`, { app: 'web' }, true],
    );
    assert.deepEqual(
      workload?.deployment?.replicaSets.map(({ name }) => name),
      ['web-k9'],
    );
  });

  test('that somebody scaled, kept or not, has its number of pods named', () => {
    const scaled = (objects: KubernetesObject[]) =>
      objects.map((object) =>
        object.kind === 'Deployment' ? { ...object, spec: { ...(object.spec as object), replicas: 4 } } : object,
      );
    for (const objects of [plain, kept]) {
      const { warnings } = look(samplePlan(), undefined, scaled(objects));
      assert.match(warnings.join(), /web runs 4 pods \(Deployment shop-qa\/web.*the file asks for 2/);
    }
  });

  test('that was kept and then restarted by kubectl is a canary as well: its ReplicaSet is another, of our hash', () => {
    const restarted = (objects: KubernetesObject[]) =>
      objects.map((object) => {
        if (object.kind !== 'Deployment') return object;
        const spec = structuredClone(object.spec) as { template: { metadata: { annotations?: object } } };
        spec.template.metadata.annotations = { 'kubectl.kubernetes.io/restartedAt': 'now' };
        return { ...object, spec };
      });
    const found = look(samplePlan(), undefined, restarted(kept));
    const [workload] = found.workloads;
    assert.deepEqual([found.problems, workload?.mode, workload?.old?.name], [[], 'canary', 'web-k1']);
    assert.deepEqual(workload?.deployment?.replicaSets.map(({ name }) => name).sort(), ['web-k9', `web-${oldHash}`]);
  });

  test('that was kept and is in the middle of a roll-out is taken over: two versions share its hash', () => {
    const found = look(
      samplePlan(),
      (seen) => {
        const other = structuredClone(seen.replicaSets.find(({ metadata }) => metadata.name === 'web-k9'));
        if (other) Object.assign(other.spec as object, { replicas: 1 });
        seen.replicaSets = seen.replicaSets.map((set) => (set.metadata.name === 'web-k9' ? (other ?? set) : set));
      },
      kept,
    );
    assert.deepEqual([found.problems, found.workloads[0]?.mode], [[], 'adopt']);
  });

  test('that stands beside the version that was deployed before fails the target, with its maker', () => {
    const beside = plainDeployment();
    const managed = { ...beside, metadata: { ...beside.metadata, managedFields: [{ manager: 'argocd-controller' }] } };
    const found = look(samplePlan(), undefined, [...sampleObjects(), managed]);
    assert.match(
      words(found).join(),
      /Deployment shop-qa\/web: made by argocd-controller, stands beside .*web-oldhash001.*kubectl delete deployment web -n shop-qa/,
    );
  });

  test('with an autoscaler is refused still', () => {
    const scaler = { kind: 'Deployment', name: 'web' };
    const found = look(
      samplePlan(),
      (seen) => {
        seen.autoscalers = [
          {
            apiVersion: 'autoscaling/v2',
            kind: 'HorizontalPodAutoscaler',
            metadata: { name: 'web', namespace },
            spec: { scaleTargetRef: scaler },
          },
        ];
      },
      plain,
    );
    assert.match(words(found).join(), /HorizontalPodAutoscaler shop-qa\/web: not supported yet/);
  });

  test('whose pods a Service of the file would lose fails the target', () => {
    const plan = samplePlan({ objects: true });
    const root = plan.objects.find(({ kind }) => kind === 'Service');
    Object.assign(root?.spec as object, { selector: { app: 'web', tier: 'front' } });
    const [workload] = plan.workloads;
    assert.ok(workload);
    const { template } = workload.manifest.spec as { template: { metadata: object } };
    Object.assign(template.metadata, { labels: { app: 'web', tier: 'front' } });
    assert.match(words(look(plan, undefined, plain)).join(), /would no longer match the old pods/);
  });

  test('of a run that never finished making it is put away, and not restored', () => {
    const unfinished = plainDeployment();
    const annotations = { [annotationKeys.application]: 'shop', [annotationKeys.environment]: 'qa' };
    const metadata = { ...unfinished.metadata, labels: { [deploymentKey]: oldId }, annotations };
    const paused = { ...unfinished, metadata, spec: { ...(unfinished.spec as object), paused: true } };
    const [workload] = look(samplePlan(), undefined, [...sampleObjects(), paused]).workloads;
    assert.deepEqual([workload?.mode, workload?.deployment?.ownsOld], ['canary', false]);
  });
});

describe('a Deployment of another name', () => {
  const other = (selector: object) => ({ ...plainDeployment('other'), spec: { selector } });

  test('whose selector matches what a run makes fails the target', () => {
    const greedy = other({ matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] });
    const found = look(samplePlan(), (seen) => void seen.deployments.push(greedy));
    assert.match(words(found).join(), /Deployment shop-qa\/other: its selector matches the ReplicaSet .*for web/);
  });

  test('whose selector matches the pods alone is no matter, unless a Deployment object is to be kept', () => {
    const like = other({ matchLabels: { app: 'web' } });
    const add = (seen: { deployments: KubernetesObject[] }) => void seen.deployments.push(like);
    assert.deepEqual(words(look(samplePlan(), add)), []);
    assert.match(words(look(samplePlan({ keep: true }), add)).join(), /other: its selector matches/);
  });
});

test('of the labels on the previous version those are told by which a Deployment would take it; others’ are theirs', () => {
  const worn = oldReplicaSet(2);
  const oldWith = (others: Record<string, string>) => {
    const labels = { ...worn.metadata.labels, ...others };
    const objects = sampleObjects().map((object) =>
      object.kind === 'ReplicaSet' ? { ...worn, metadata: { ...worn.metadata, labels } } : object,
    );
    return look(samplePlan(), undefined, objects);
  };
  const [workload] = oldWith({ app: 'web', team: 'shop' }).workloads;
  assert.deepEqual(workload?.old?.labels, { app: 'web' });
  assert.equal(oldWith({ team: 'shop' }).workloads[0]?.old?.labels, undefined);
});

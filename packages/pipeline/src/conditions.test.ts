import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ClusterView, evaluate } from './conditions.ts';
import type { Condition } from './deployment-state.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { hashKey } from './marks.ts';
import { newHash, oldHash } from './testing/samples.ts';

type Asked = Condition extends infer Each ? (Each extends Condition ? Omit<Each, 'key' | 'namespace'> : never) : never;
type Endpoint = { pod?: string; ready?: boolean; terminating?: boolean };
type Seen = {
  /** Value of the hash key in the selector of a Service, by its name. */
  pins?: Record<string, string | undefined>;
  /** The endpoints of a Service, perhaps in several slices. */
  slices?: Record<string, Endpoint[][]>;
  pods?: KubernetesObject[];
  replicaSet?: KubernetesObject;
  profile?: KubernetesObject;
};

function viewOf({ pins = {}, slices = {}, pods = [], replicaSet, profile }: Seen): ClusterView {
  return {
    service: (_, name) =>
      name in pins
        ? {
            apiVersion: 'v1',
            kind: 'Service',
            metadata: { name },
            spec: { selector: { app: 'web', ...(pins[name] === undefined ? {} : { [hashKey]: pins[name] }) } },
          }
        : undefined,
    endpointSlices: (_, service) =>
      (slices[service] ?? []).map((endpoints, index) => ({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: `${service}-${index}` },
        endpoints: endpoints.map(({ pod, ...conditions }) => ({
          conditions,
          ...(pod === undefined ? {} : { targetRef: { kind: 'Pod', name: pod } }),
        })),
      })),
    pods: (_, hash) => pods.filter(({ metadata }) => metadata.labels?.[hashKey] === hash),
    replicaSet: () => replicaSet,
    trafficSplit: () => undefined,
    shownUpTo: () => null,
    deployment: () => undefined,
    deployments: () => [],
    serviceProfile: () => profile,
  };
}

function pod(name: string, hash: string, fields: { ready?: boolean; deleted?: boolean; status?: object } = {}) {
  const { ready = true, deleted = false, status = {} } = fields;
  const object: KubernetesObject = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      labels: { [hashKey]: hash },
      ...(deleted ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }], ...status },
  };
  return object;
}

function holds(condition: Asked, seen: Seen): boolean {
  return evaluate({ key: 'it', namespace: 'shop-qa', ...condition } as Condition, viewOf(seen)).holds;
}

function detail(condition: Asked, seen: Seen): string {
  return evaluate({ key: 'it', namespace: 'shop-qa', ...condition } as Condition, viewOf(seen)).detail;
}

const twoNew = [pod('n1', newHash), pod('n2', newHash)];
const pinned = { pins: { web: newHash } };

describe('the endpoints of a Service are exactly the pods of a version', () => {
  const condition = { kind: 'endpoints', service: 'web', hash: newHash, ready: 2 } as const;
  const rows: [string, Seen, boolean][] = [
    ['all are there and ready', { pods: twoNew, slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }]] } }, true],
    ['they lie in several slices', { pods: twoNew, slices: { web: [[{ pod: 'n1' }], [{ pod: 'n2' }]] } }, true],
    ['one is in two slices', { pods: twoNew, slices: { web: [[{ pod: 'n1' }], [{ pod: 'n1' }]] } }, false],
    ['`ready` is undefined', { pods: twoNew, slices: { web: [[{ pod: 'n1' }, { pod: 'n2', ready: true }]] } }, true],
    ['one is not ready', { pods: twoNew, slices: { web: [[{ pod: 'n1' }, { pod: 'n2', ready: false }]] } }, false],
    ['one is missing', { pods: twoNew, slices: { web: [[{ pod: 'n1' }]] } }, false],
    ['there is none', { pods: twoNew }, false],
    [
      'a pod of the other version is behind it',
      { pods: [...twoNew, pod('o1', oldHash)], slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }, { pod: 'o1' }]] } },
      false,
    ],
    [
      'that pod is terminating',
      {
        pods: [...twoNew, pod('o1', oldHash)],
        slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }, { pod: 'o1', terminating: true }]] },
      },
      true,
    ],
    ['an endpoint names no pod', { pods: twoNew, slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }, {}]] } }, false],
    [
      'the slice lags: a pod that is on its way out still counts as ready there',
      {
        pods: [pod('n1', newHash), pod('n2', newHash, { deleted: true })],
        slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }]] },
      },
      false,
    ],
    [
      'the Service as seen is not pinned yet',
      { pods: twoNew, pins: { web: undefined }, slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }]] } },
      false,
    ],
    ['the Service is not known', { pods: twoNew, pins: {}, slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }]] } }, false],
  ];
  for (const [name, seen, expected] of rows) {
    test(`${expected ? 'yes' : 'no'}: ${name}`, () => {
      assert.equal(holds(condition, { ...pinned, ...seen }), expected);
    });
  }

  test('without a number, pods that are not ready may be missing: an old version may be broken', () => {
    const seen = {
      pins: { web: oldHash },
      pods: [pod('o1', oldHash), pod('o2', oldHash, { ready: false })],
      slices: { web: [[{ pod: 'o1' }]] },
    };
    assert.equal(holds({ kind: 'endpoints', service: 'web', hash: oldHash, ready: null }, seen), true);
  });

  test('among others, only their number counts', () => {
    const seen = {
      pins: { web: undefined },
      pods: [...twoNew, pod('o1', oldHash)],
      slices: { web: [[{ pod: 'n1' }, { pod: 'n2' }, { pod: 'o1' }]] },
    };
    assert.equal(holds({ ...condition, amongOthers: true }, seen), true);
    assert.equal(holds({ ...condition, ready: 3, amongOthers: true }, seen), false);
  });

  test('its words say how many, and why not, as Kubernetes says it', () => {
    const waiting = { containerStatuses: [{ state: { waiting: { reason: 'ImagePullBackOff' } } }] };
    const pods = [pod('n1', newHash), pod('n2', newHash, { ready: false, status: { ...waiting, conditions: [] } })];
    assert.equal(
      detail(condition, { ...pinned, pods, slices: { web: [[{ pod: 'n1' }]] } }),
      '1 of 2 pods ready behind Service web (1 in ImagePullBackOff)',
    );
  });

  test('a pod that runs, and whose probe says no, is told apart from one that is not there', () => {
    const running = { phase: 'Running', conditions: [] };
    const pods = [pod('n1', newHash), pod('n2', newHash, { ready: false, status: running })];
    assert.equal(
      detail(condition, { ...pinned, pods, slices: { web: [[{ pod: 'n1' }]] } }),
      '1 of 2 pods ready behind Service web (1 running, not ready)',
    );
  });

  test('a container that crashes again and again says how it ended', () => {
    const crashed = {
      conditions: [],
      containerStatuses: [
        { state: { waiting: { reason: 'CrashLoopBackOff' } }, lastState: { terminated: { exitCode: 137 } } },
      ],
    };
    const pods = [1, 2].map((n) => pod(`n${n}`, newHash, { ready: false, status: crashed }));
    assert.match(detail(condition, { ...pinned, pods }), /\(2 in CrashLoopBackOff exit code 137\)$/);
  });

  test('a pod that cannot be scheduled says so', () => {
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' }];
    const pods = [pod('n1', newHash, { status: { conditions } })];
    assert.match(detail(condition, { ...pinned, pods }), /\(1 in Unschedulable\)$/);
  });
});

describe('enough old pods to take traffic back', () => {
  const other = { service: 'web-canary', hash: newHash };
  const condition = { kind: 'enough', service: 'web', hash: oldHash, atLeast: 2, other } as const;
  const seen = (old: number, fresh: number): Seen => ({
    pods: [...named('o', old, oldHash), ...named('n', fresh, newHash)],
    slices: { web: [endpoints('o', old)], 'web-canary': [endpoints('n', fresh)] },
  });
  const rows: [number, number, boolean][] = [
    [2, 3, true],
    [3, 3, true],
    [1, 1, true],
    [0, 0, true],
    [1, 2, false],
    [0, 1, false],
  ];
  for (const [old, fresh, expected] of rows) {
    test(`${expected ? 'yes' : 'no'}: ${old} old and ${fresh} new ones, 2 at the start`, () => {
      assert.equal(holds(condition, seen(old, fresh)), expected);
    });
  }
});

function named(prefix: string, count: number, hash: string): KubernetesObject[] {
  return Array.from({ length: count }, (_, index) => pod(`${prefix}${index}`, hash));
}

function endpoints(prefix: string, count: number): Endpoint[] {
  return Array.from({ length: count }, (_, index) => ({ pod: `${prefix}${index}` }));
}

describe('pods are ready', () => {
  const condition = { kind: 'podsReady', hash: newHash, ready: 2 } as const;
  test('counts living, ready pods of that version', () => {
    assert.equal(holds(condition, { pods: twoNew }), true);
    assert.equal(holds(condition, { pods: [pod('n1', newHash), pod('o1', oldHash)] }), false);
    assert.equal(holds(condition, { pods: [pod('n1', newHash), pod('n2', newHash, { ready: false })] }), false);
    assert.equal(holds(condition, { pods: [pod('n1', newHash), pod('n2', newHash, { deleted: true })] }), false);
    assert.equal(
      holds(condition, { pods: [pod('n1', newHash), pod('n2', newHash, { status: { phase: 'Failed' } })] }),
      false,
    );
  });
});

describe('a ReplicaSet and its pods are gone', () => {
  const condition = { kind: 'gone', replicaSet: 'web-old', hash: oldHash } as const;
  const set = (replicas: number, status: object, generation = 2): KubernetesObject => ({
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'web-old', generation },
    spec: { replicas },
    status,
  });
  const rows: [string, Seen, boolean][] = [
    ['scaled to 0 and no pod left', { replicaSet: set(0, { observedGeneration: 2, replicas: 0 }) }, true],
    ['the controller has not seen it yet', { replicaSet: set(0, { observedGeneration: 1, replicas: 0 }) }, false],
    ['no status yet', { replicaSet: set(0, {}) }, false],
    ['still counted', { replicaSet: set(0, { observedGeneration: 2, replicas: 1 }) }, false],
    ['not scaled', { replicaSet: set(1, { observedGeneration: 2, replicas: 0 }) }, false],
    ['it was deleted', {}, true],
    ['it was deleted and a pod is left', { pods: [pod('o1', oldHash)] }, false],
    ['that pod is terminating', { pods: [pod('o1', oldHash, { deleted: true })] }, true],
    ['pods of the other version are there', { pods: twoNew }, true],
  ];
  for (const [name, seen, expected] of rows) {
    test(`${expected ? 'yes' : 'no'}: ${name}`, () => {
      assert.equal(holds(condition, seen), expected);
    });
  }
});

describe('the mesh', () => {
  const profile = (...weights: [string, string][]): KubernetesObject => ({
    apiVersion: 'linkerd.io/v1alpha2',
    kind: 'ServiceProfile',
    metadata: { name: 'web.shop-qa.svc.cluster.local' },
    spec: {
      dstOverrides: weights.map(([service, weight]) => ({ authority: `${service}.shop-qa.svc.cluster.local`, weight })),
    },
  });
  const mesh = { kind: 'mesh', root: 'web', canary: 'web-canary', weights: { stable: 80, canary: 20 } } as const;

  test('has taken the weights when they are equal', () => {
    assert.equal(holds(mesh, { profile: profile(['web', '80'], ['web-canary', '20']) }), true);
    assert.equal(holds(mesh, { profile: profile(['web', '90'], ['web-canary', '10']) }), false);
    assert.equal(holds(mesh, { profile: profile() }), false);
    assert.equal(holds(mesh, {}), false);
    assert.equal(detail(mesh, { profile: profile(['web', '90'], ['web-canary', '10']) }), 'the mesh has 90/10');
  });

  test('without weights counts only where that is as good', () => {
    assert.equal(holds({ ...mesh, orNone: true }, { profile: profile() }), true);
    assert.equal(holds({ ...mesh, orNone: true }, { profile: profile(['web', '90'], ['web-canary', '10']) }), false);
  });

  test('dropped the split when it overrides nothing any more', () => {
    const dropped = { kind: 'meshDropped', root: 'web' } as const;
    assert.equal(holds(dropped, {}), true);
    assert.equal(holds(dropped, { profile: profile() }), true);
    assert.equal(holds(dropped, { profile: profile(['web', '100'], ['web-canary', '0']) }), false);
  });
});

describe('the guards', () => {
  const canary = { service: 'web-canary', hash: newHash };

  test('the new version is starved without a ready endpoint, short with fewer than asked for', () => {
    const seen = (ready: number): Seen => ({
      pods: named('n', 3, newHash),
      slices: {
        'web-canary': [
          named('n', 3, newHash).map(({ metadata }, index) => ({ pod: metadata.name, ready: index < ready })),
        ],
      },
    });
    const starved = { kind: 'starved', ...canary } as const;
    const short = { kind: 'short', ...canary, ready: 3 } as const;
    assert.deepEqual(
      [0, 1, 3].map((ready) => holds(starved, seen(ready))),
      [true, false, false],
    );
    assert.deepEqual(
      [0, 2, 3].map((ready) => holds(short, seen(ready))),
      [true, true, false],
    );
  });
});

test('law 10: an unknown condition is an error by name', () => {
  assert.throws(() => holds({ kind: 'moonPhase' } as unknown as Condition, {}), /moonPhase/);
});

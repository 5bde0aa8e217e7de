import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { checkLaws } from '../support/laws.ts';
import type { Change, Recording, SentWrite } from '../support/recorder.ts';
import { openWorld } from '../support/world.ts';

/* The laws are judged from recordings; here a good recording is spoilt in one place after another, and each must be noticed. */

let good: Recording;
before(async () => {
  const world = await openWorld('laws');
  try {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    await (await scene.deploy({ version: '2' })).end();
    good = await recorder.stop();
  } finally {
    await world.close();
  }
});

const expected = { replicas: 2, end: 'succeeded' } as const;
type Spec = Record<string, never> & {
  backends: { service: string; weight: number }[];
  selector: Record<string, string>;
};

/** The recording with one change rewritten, left out or followed by another. */
function spoilt(pick: (change: Change, index: number) => boolean, act: (change: Change) => Change[]): Recording {
  let done = false;
  const changes = good.changes.flatMap((change, index) => {
    if (done || !pick(change, index)) return [change];
    done = true;
    return act(structuredClone(change));
  });
  assert.ok(done, 'there is nothing to spoil');
  return { ...good, changes };
}

function withWrites(act: (writes: SentWrite[]) => SentWrite[]): Recording {
  return { ...good, writes: act(structuredClone(good.writes)) };
}

const specOf = (object: KubernetesObject) => object.spec as Spec;
const isSplitAt = (canary: number) => (change: Change) =>
  change.kind === 'TrafficSplit' && change.type === 'MODIFIED' && specOf(change.object).backends[1]?.weight === canary;
const withWeight = (change: Change, canary: number): Change => {
  const copy = structuredClone(change);
  specOf(copy.object).backends = [
    { service: 'web', weight: 100 - canary },
    { service: 'web-canary', weight: canary },
  ];
  return copy;
};
const isEndpointsOf = (service: string) => (change: Change) =>
  change.kind === 'EndpointSlice' &&
  change.object.metadata.labels?.['kubernetes.io/service-name'] === service &&
  (change.object.endpoints as { conditions: { ready: boolean } }[] | undefined)?.filter(
    ({ conditions }) => conditions.ready,
  ).length === 2;
const withoutEndpoints = (change: Change): Change => ({ ...change, object: { ...change.object, endpoints: [] } });

const cases: { title: string; law: RegExp; recording: () => Recording }[] = [
  {
    title: 'a weight on a backend without pods',
    law: /law 1: weight 10 for 0 of 2 ready pods/,
    recording: () => ({
      ...good,
      changes: good.changes.map((change) => (isEndpointsOf('web-canary')(change) ? withoutEndpoints(change) : change)),
    }),
  },
  {
    title: 'pods taken from a Service that has weight',
    law: /law 1: Service web lost 2 ready pods under weight/,
    recording: () =>
      spoilt(isSplitAt(10), (change) => {
        const pin = good.changes.find(
          ({ kind, object }) =>
            kind === 'Service' && object.metadata.name === 'web' && specOf(object).selector[hashKey],
        );
        assert.ok(pin);
        const wrong = structuredClone(pin);
        specOf(wrong.object).selector[hashKey] = 'nothing';
        return [change, { ...wrong, type: 'MODIFIED', previous: pin.object }];
      }),
  },
  {
    title: 'a weight that falls',
    law: /law 2: intended share fell/,
    recording: () => spoilt(isSplitAt(60), (change) => [change, withWeight(change, 30)]),
  },
  {
    title: 'a weight written before the mesh took the last one',
    law: /law 3: 40\/60 was written before the mesh took 90\/10/,
    recording: () =>
      spoilt(
        ({ kind, object }) => kind === 'ServiceProfile' && JSON.stringify(object.spec).includes('"10"'),
        () => [],
      ),
  },
  {
    title: 'a ReplicaSet created with pods',
    law: /law 5: ReplicaSet .* was created with pods/,
    recording: () =>
      spoilt(
        ({ kind, type }) => kind === 'ReplicaSet' && type === 'ADDED',
        (change) => [{ ...change, object: { ...change.object, spec: { ...specOf(change.object), replicas: 2 } } }],
      ),
  },
  {
    title: 'a TrafficSplit created with weight',
    law: /law 5: the TrafficSplit was created with/,
    recording: () =>
      spoilt(
        ({ kind, type }) => kind === 'TrafficSplit' && type === 'ADDED',
        (change) => [withWeight(change, 10)],
      ),
  },
  {
    title: 'a foreign field that was changed',
    law: /law 5: Service web became/,
    recording: () =>
      spoilt(
        ({ kind, type, object }) => kind === 'Service' && type === 'MODIFIED' && object.metadata.name === 'web',
        (change) => [
          { ...change, object: { ...change.object, spec: { ...specOf(change.object), sessionAffinity: 'ClientIP' } } },
        ],
      ),
  },
  {
    title: 'a patch without its precondition',
    law: /law 5: patch .* without a resourceVersion/,
    recording: () =>
      withWrites((writes) =>
        writes.map((write) => {
          const { metadata } = (write.body ?? {}) as { metadata?: { resourceVersion?: string } };
          if (write.verb === 'patch') delete metadata?.resourceVersion;
          return write;
        }),
      ),
  },
  {
    title: 'a weight that was asked for twice',
    law: /one request per weight: 90\/10 was asked for 2 times and stored 1 times/,
    recording: () =>
      withWrites((writes) =>
        writes.flatMap((write) => (JSON.stringify(write.body).includes('"weight":90') ? [write, write] : [write])),
      ),
  },
  {
    title: 'a weight that was stored twice',
    law: /the weights 90\/10 were written again/,
    recording: () => spoilt(isSplitAt(10), (change) => [change, change]),
  },
  {
    title: 'a TrafficSplit that is left behind',
    law: /end: a TrafficSplit is left/,
    recording: () =>
      spoilt(
        ({ kind, type }) => kind === 'TrafficSplit' && type === 'DELETED',
        () => [],
      ),
  },
  {
    title: 'a canary Service that is left behind',
    law: /end: the canary Service is left/,
    recording: () =>
      spoilt(
        ({ kind, type }) => kind === 'Service' && type === 'DELETED',
        () => [],
      ),
  },
  {
    title: 'a root Service that is still pinned',
    law: /end: Service web is/,
    recording: () => {
      const last = good.changes.findLastIndex(
        ({ kind, object }) => kind === 'Service' && object.metadata.name === 'web',
      );
      return { ...good, changes: good.changes.filter((_, index) => index !== last) };
    },
  },
  {
    title: 'an old version that still runs',
    law: /end: 2 ReplicaSets are left/,
    recording: () =>
      spoilt(
        ({ kind, type }) => kind === 'ReplicaSet' && type === 'DELETED',
        () => [],
      ),
  },
];

describe('The judge of recordings', () => {
  it('finds nothing in a canary that keeps the laws', () => assert.deepEqual(checkLaws(good, expected), []));
  for (const { title, law, recording } of cases) {
    it(`notices ${title}`, () => {
      const found = checkLaws(recording(), expected);
      assert.ok(
        found.some((broken) => law.test(broken)),
        JSON.stringify(found),
      );
    });
  }
});

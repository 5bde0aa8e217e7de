import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClusterView } from '@cdaas/pipeline/conditions.ts';
import type { Condition } from '@cdaas/pipeline/deployment-state.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { newsOf, toldBy, type Watched } from './watched-deployments.ts';

const condition: Condition = { key: 'S5.pods.0', namespace: 'shop', kind: 'podsReady', hash: 'h', ready: 3 };

function view(...pods: ('ready' | 'running' | 'pulling' | 'new')[]): ClusterView {
  const statuses = {
    ready: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
    running: { phase: 'Running' },
    pulling: { phase: 'Pending', containerStatuses: [{ state: { waiting: { reason: 'ImagePullBackOff' } } }] },
    new: { phase: 'Pending' },
  };
  const objects = pods.map(
    (status, index): KubernetesObject => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `p${index}`, namespace: 'shop' },
      status: statuses[status],
    }),
  );
  return { pods: () => objects } as unknown as ClusterView;
}

test('a wait hears of pods that are not ready and why, and of each that gets ready in spite of the others', () => {
  const watched: Watched = {
    id: 'd',
    version: 1,
    namespace: 'shop',
    conditions: [condition],
    told: new Map(),
    elsewhere: false,
  };
  const rows: [Parameters<typeof view>, string | null][] = [
    [['new', 'new', 'new'], null],
    [['running', 'new', 'new'], '0 of 3 pods ready (1 running, not ready)'],
    [['running', 'running', 'running'], null],
    [['running', 'running', 'pulling'], '0 of 3 pods ready (2 running, not ready, 1 in ImagePullBackOff)'],
    [['ready', 'ready', 'pulling'], '2 of 3 pods ready (1 in ImagePullBackOff)'],
    [['ready', 'ready', 'pulling'], null],
    [['ready', 'ready', 'ready'], '3 of 3 pods ready'],
  ];
  for (const [pods, told] of rows) {
    const [report] = newsOf(watched, watched.conditions, view(...pods));
    assert.equal(report?.detail ?? null, told, pods.join());
    if (report) watched.told.set(condition.key, toldBy(report, 0));
  }
});

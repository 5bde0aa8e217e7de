import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import { driveUntil } from '@cdaas/pipeline/testing/drive.ts';
import { createSetup, createWorld } from '@cdaas/pipeline/testing/world.ts';
import type { Logger } from 'pino';
import type { Database } from '../database/db.ts';
import type { ListOptions, ResourceCollection } from '../drivers/kube.ts';
import type { ClusterKey, KubeClients } from '../drivers/kube-clients.ts';
import { createWatches, type WatchedRow } from './watches.ts';

const setup = createSetup({ steps: [{ kind: 'setWeight', weight: 10 }] });
const { state: begun } = driveUntil(setup, createWorld(setup), ({ state }) => state.objects['split.0'] !== undefined);

function withSplits(splitApiVersion: string): DeploymentState {
  assert.ok(begun.survey);
  return { ...begun, survey: { ...begun.survey, splitApiVersion } };
}

const row = (id: string, clusterId: string): WatchedRow => ({
  id,
  version: 1,
  clusterId,
  organisationId: 'o',
  tenantId: 't',
});

type Find = { where: { done?: boolean }; select: { state?: true } };

/** Watches of worker 1 on a database and clusters that are played. */
function open(
  t: TestContext,
  {
    settings,
    find,
    unseenAfterMs = 60_000,
  }: {
    settings?: (key: ClusterKey) => void;
    find?: (asked: Find) => unknown[];
    unseenAfterMs?: number;
  },
) {
  const listed: string[] = [];
  const leased: unknown[] = [];
  const appended: unknown[] = [];
  const logged: unknown[] = [];
  let isAway = false;
  const db = {
    clock: { now: () => new Date() },
    sql: async (name: string, _text: string, values: unknown[]) => {
      if (isAway) throw new Error('Postgres is away');
      if (name === 'take_watch_lease') {
        leased.push(values[1]);
        return [{ owner: 1, epoch: 1 }];
      }
      appended.push(values[2]);
      return [{ pipeline_id: 'p', number: 7, owner: 2, refused: null, status: null }];
    },
    prisma: {
      deployment: { findMany: async (asked: Find) => find?.(asked) ?? [] },
      event: { findMany: async () => [] },
      watchLease: { updateMany: async () => ({}) },
    },
  };
  const client = {
    async list({ apiVersion, plural, namespace }: ResourceCollection, _options: ListOptions) {
      listed.push(`${apiVersion} ${plural} ${namespace ?? ''}`);
      return { kind: 'listed', objects: [], resourceVersion: '1' };
    },
    stream: ({ signal }: { signal: AbortSignal }) =>
      new Promise((resolve) => signal.addEventListener('abort', () => resolve({ kind: 'ended' }), { once: true })),
  };
  const clients = {
    get: async () => (unseenAfterMs < 1_000 ? undefined : client),
    settings: async (key: ClusterKey) => {
      settings?.(key);
      return { name: 'east', clusterUid: 'u', namespaces: [], clusterScopedKinds: [], meshConfirmation: 'stored' };
    },
  };
  const log = { error: (said: unknown) => logged.push(said), warn() {}, info() {} };
  const watches = createWatches({
    db: db as unknown as Database,
    clients: clients as unknown as KubeClients,
    queue: { enqueueWake: async () => {} },
    workerId: 1,
    log: log as unknown as Logger,
    wake() {},
    patience: { unseenAfterMs },
  });
  t.after(() => watches.close());
  return { watches, listed, leased, appended, logged, away: (is: boolean) => (isAway = is) };
}

const open1 = (clusterId: string) => ({ ...row(`of ${clusterId}`, clusterId), owner: 1 });

test('a cluster whose registration cannot be read keeps no other one without a lease', async (t) => {
  const { watches, leased, logged, away } = open(t, {
    settings({ clusterId }) {
      if (clusterId === 'broken') throw new Error('the credential cannot be decrypted');
    },
    find: ({ where }) => (where.done === false ? [open1('broken'), open1('sound')] : []),
  });
  away(true);
  for (const clusterId of ['broken', 'sound']) watches.update(row(`of ${clusterId}`, clusterId), begun, 0);
  await t.waitFor(() => assert.equal(logged.length, 2));
  away(false);
  await watches.refresh();
  assert.deepEqual(leased, ['broken', 'sound']);
  const { clusterId, err } = logged.at(-1) as { clusterId: string; err: Error };
  assert.deepEqual([clusterId, err.message], ['broken', 'the credential cannot be decrypted']);
});

test('what could not be reported because Postgres was away for a moment is reported after it', async (t) => {
  let asked = 0;
  const { watches, appended } = open(t, {
    unseenAfterMs: 1,
    find({ where, select }) {
      if (where.done === false) return [{ ...row('d', 'east'), owner: 2 }];
      if (select.state) return [{ ...row('d', 'east'), state: begun, foldedEvent: 0, lastEvent: 0 }];
      asked += 1;
      if (asked === 1) throw new Error('Postgres is away');
      return [{ id: 'd', version: 1 }];
    },
  });
  await t.waitFor(async () => {
    await watches.refresh();
    assert.ok(asked > 0);
  });
  await t.waitFor(() => assert.ok(appended.length > 0), { timeout: 5_000 });
  assert.equal(asked, 2);
  assert.match(String(appended[0]), /guard\.unseen/);
});

test('runs that know different versions of TrafficSplit share the watch of the one that came first', async (t) => {
  const { watches, listed } = open(t, { find: () => [] });
  const splits = () => listed.filter((one) => one.includes('trafficsplits')).map((one) => one.split(' ')[0]);
  const [older, newer] = ['split.smi-spec.io/v1alpha2', 'split.smi-spec.io/v1alpha4'];
  const commit = async (id: string, version: number, state: DeploymentState) => {
    watches.update({ ...row(id, 'east'), version }, state, 0);
    await turn();
  };
  await commit('a', 1, withSplits(older));
  await t.waitFor(() => assert.deepEqual(splits(), [older]));
  await commit('b', 1, withSplits(newer));
  await commit('a', 2, withSplits(older));
  await commit('b', 2, withSplits(newer));
  assert.deepEqual(splits(), [older]);
  await commit('a', 3, { ...withSplits(older), status: 'SUCCEEDED' });
  await commit('b', 3, withSplits(newer));
  await t.waitFor(() => assert.deepEqual(splits(), [older, newer]));
});

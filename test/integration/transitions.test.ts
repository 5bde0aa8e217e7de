import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { appendNews } from '@cdaas/control-plane/news.ts';
import { loadOwned } from '@cdaas/control-plane/ownership.ts';
import { insertPipeline } from '@cdaas/control-plane/start-pipeline.ts';
import { advanceMany, type Claim, createCommitter } from '@cdaas/control-plane/transitions.ts';
import { withOrganisation } from '../support/database.ts';
import {
  type Driving,
  eventOf,
  openDriving,
  pipelineStart,
  startTestPipeline,
  transitionOf,
} from '../support/pipelines.ts';
import { withAdmin } from '../support/postgres.ts';

let driving: Driving;
let url: Driving['url'];
let api: Driving['api'];
let worker: Driving['worker'];
let org: Driving['org'];
let rival: Driving['rival'];
let workerId: Driving['workerId'];
let now: Driving['now'];
let later: Driving['later'];
let own: Driving['own'];
let numbersOf: Driving['numbersOf'];

before(async () => {
  driving = await openDriving('transitions');
  ({ url, api, worker, org, rival, workerId, now, later, own, numbersOf } = driving);
});

after(() => driving.close());

describe('advance_many', () => {
  it('moves a row once: an old version, another owner and a final row lose', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    const committer = createCommitter(worker);

    const first = await committer.commit(transitionOf(row, workerId, now(), { startedAt: now(), phase: 'S1' }));
    assert.deepEqual(first, { won: true, version: row.version + 1, number: 3 });
    assert.deepEqual(await committer.commit(transitionOf(row, workerId, now())), { won: false });
    const known = { id: row.id, version: row.version + 1 };
    assert.deepEqual(await committer.commit(transitionOf(known, workerId + 1, now())), { won: false });
    assert.deepEqual(await committer.commit(transitionOf(known, null, now())), { won: false });

    const end = await committer.commit(
      transitionOf(known, workerId, now(), { done: true, status: 'SUCCEEDED', completedAt: now() }),
    );
    assert.equal(end.won, true);
    const final = await worker.prisma.deployment.findUniqueOrThrow({ where: { id: row.id } });
    assert.deepEqual([final.owner, final.wakeAt, final.done, final.status], [null, null, true, 'SUCCEEDED']);
    const more = transitionOf({ id: row.id, version: final.version }, null, now());
    assert.deepEqual(await committer.commit(more), { won: false });
    assert.deepEqual(await numbersOf(pipelineId), [1, 2, 3, 4]);
  });

  it('stores events as given and says that all are folded', async () => {
    const { deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    const at = new Date('2026-01-02T03:04:05.678Z');
    const events = [eventOf('first', at), { type: 'second', data: { deep: [1, null] }, at }];
    const outcome = await advanceMany(worker, [transitionOf(row, workerId, at, { events })]);
    assert.deepEqual(outcome.get(row.id), { won: true, version: row.version + 1, number: 4 });

    const stored = await worker.prisma.event.findMany({ where: { deploymentId: row.id, number: { gt: 2 } } });
    assert.deepEqual(
      stored.map(({ number, type, data, message, at }) => ({ number, type, data, message, at })),
      [
        { number: 3, type: 'first', data: { of: 'first' }, message: 'it was first', at },
        { number: 4, type: 'second', data: { deep: [1, null] }, message: null, at },
      ],
    );
    const [loaded] = await loadOwned(worker, workerId, [row.id]);
    assert.deepEqual(loaded?.news, []);

    const silent = { id: row.id, version: row.version + 1 };
    const quiet = await advanceMany(worker, [transitionOf(silent, workerId, at, { events: [] })]);
    assert.deepEqual(quiet.get(row.id), { won: true, version: row.version + 2, number: 4 });
  });

  it('makes the pipeline due in the transaction of the final transition, and lets go where asked', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org, 2);
    await worker.prisma.pipeline.update({ where: { id: pipelineId }, data: { wakeAt: null } });
    const [first, second] = [await own(deploymentIds[0]!), await own(deploymentIds[1]!)];
    await advanceMany(worker, [
      transitionOf(first, workerId, now(), { release: true, wakeAt: later(3_600_000) }),
      transitionOf(second, workerId, now(), { done: true, status: 'FAILED' }),
    ]);
    const released = await worker.prisma.deployment.findUniqueOrThrow({ where: { id: first.id } });
    assert.equal(released.owner, null);
    const pipeline = await worker.prisma.pipeline.findUniqueOrThrow({ where: { id: pipelineId } });
    assert.equal(pipeline.version, 1);
    assert.ok(pipeline.wakeAt && pipeline.wakeAt <= later(50));
  });

  it('numbers without gaps under eight committers on the same pipelines, and none waits for another for ever', async () => {
    const pipelines = await Promise.all(Array.from({ length: 4 }, () => startTestPipeline(api, org, 8)));
    const rows = await Promise.all(pipelines.flatMap(({ deploymentIds }) => deploymentIds.map((id) => own(id))));
    const committers = Array.from({ length: 8 }, () => createCommitter(worker));
    // Each committer drives rows of every pipeline, each in another order.
    await Promise.all(
      rows.map(async (row, index) => {
        const committer = committers[index % 8]!;
        let { version } = row;
        for (let step = 0; step < 10; step++) {
          const events = Array.from({ length: (index + step) % 3 }, () => eventOf('stepped', now()));
          const outcome = await committer.commit(transitionOf({ id: row.id, version }, workerId, now(), { events }));
          assert.ok(outcome.won);
          ({ version } = outcome);
        }
      }),
    );
    for (const { pipelineId } of pipelines) {
      const numbers = await numbersOf(pipelineId);
      assert.deepEqual(
        numbers,
        numbers.map((_, index) => index + 1),
      );
      const pipeline = await worker.prisma.pipeline.findUniqueOrThrow({ where: { id: pipelineId } });
      assert.equal(pipeline.lastEvent, numbers.length);
    }
  });

  it('lets at most one of eight committers move a row that gets news meanwhile', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    const outcomes = await Promise.all([
      ...Array.from({ length: 8 }, () => advanceMany(worker, [transitionOf(row, workerId, now())])),
      appendNews(api, org, [{ deploymentId: row.id, type: 'approved', data: {} }]),
    ]);
    const won = outcomes.slice(0, 8).filter((outcome) => outcome instanceof Map && outcome.get(row.id)?.won);
    assert.ok(won.length <= 1);
    const numbers = await numbersOf(pipelineId);
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => index + 1),
    );
  });

  it('commits the rest of a group of which one row cannot be stored', async () => {
    const { deploymentIds } = await startTestPipeline(api, org, 3);
    const rows = await Promise.all(deploymentIds.map((id) => own(id)));
    const committer = createCommitter(worker);
    const [good, bad, alsoGood] = rows.map((row) => transitionOf(row, workerId, now()));
    const results = await Promise.allSettled([
      committer.commit(good!),
      committer.commit({ ...bad!, status: null as never }),
      committer.commit(alsoGood!),
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    const moved = await worker.prisma.deployment.findMany({
      where: { id: { in: deploymentIds } },
      orderBy: { target: 'asc' },
    });
    assert.deepEqual(
      moved.map(({ version }) => version),
      [2, 1, 2],
    );
  });

  it('fails a whole group at once where Postgres is away', async () => {
    let tries = 0;
    const sql = async () => {
      tries += 1;
      throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    };
    const committer = createCommitter({ sql });
    const rows = Array.from({ length: 100 }, (_, n) => transitionOf({ id: `${n}`, version: 1 }, workerId, now()));
    const outcomes = await Promise.allSettled(rows.map((row) => committer.commit(row)));
    assert.ok(outcomes.every(({ status }) => status === 'rejected'));
    assert.equal(tries, 1);
  });

  it('remembers what was there before a change from the first time on', async () => {
    const { deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    const object = { slot: 'root', apiVersion: 'v1', kind: 'Service', namespace: 'default', name: 'web' };
    const changed = { ...object, action: 'changed' as const };
    await advanceMany(worker, [
      transitionOf(row, workerId, now(), {
        owned: [{ ...changed, previous: Uint8Array.of(7), resourceVersion: '1' }],
      }),
    ]);
    const next = { id: row.id, version: row.version + 1 };
    await advanceMany(worker, [
      transitionOf(next, workerId, now(), {
        owned: [{ ...changed, previous: Uint8Array.of(8), uid: 'u', resourceVersion: '2' }],
      }),
    ]);
    const [stored] = await worker.prisma.ownedObject.findMany({ where: { deploymentId: row.id } });
    assert.deepEqual([...(stored?.previous ?? [])], [7]);
    assert.deepEqual([stored?.uid, stored?.resourceVersion, stored?.action], ['u', '2', 'changed']);
  });

  it('tells listeners once for each group that added events', async () => {
    const { deploymentIds } = await startTestPipeline(api, org, 2);
    const rows = await Promise.all(deploymentIds.map((id) => own(id)));
    await withAdmin(url, async (client) => {
      let told = 0;
      client.on('notification', () => {
        told++;
      });
      await client.query('listen cdaas_events');
      await advanceMany(
        worker,
        rows.map((row) => transitionOf(row, workerId, now())),
      );
      await client.query('select 1');
      assert.equal(told, 1);
      const quiet = rows.map(({ id, version }) =>
        transitionOf({ id, version: version + 1 }, workerId, now(), { events: [] }),
      );
      await advanceMany(worker, quiet);
      await client.query('select 1');
      assert.equal(told, 1);
    });
  });
});

describe('object claims', () => {
  const claim = (clusterUid: string, name: string): Claim => ({
    clusterUid,
    namespace: 'default',
    kind: 'Service',
    name,
  });

  it('are refused where another deployment holds one, and nothing of that transition is applied', async () => {
    const first = await own((await startTestPipeline(api, org)).deploymentIds[0]!);
    const second = await own((await startTestPipeline(api, org)).deploymentIds[0]!);
    const foreign = await own((await startTestPipeline(api, rival)).deploymentIds[0]!);
    const bystander = await own((await startTestPipeline(api, org)).deploymentIds[0]!);
    const uid = org.clusterUid;

    await advanceMany(worker, [
      transitionOf(first, workerId, now(), { claims: [claim(uid, 'web'), claim(uid, 'web-canary')] }),
    ]);
    const outcome = await advanceMany(worker, [
      transitionOf(second, workerId, now(), { claims: [claim(uid, 'api'), claim(uid, 'web')] }),
      transitionOf(foreign, workerId, now(), { claims: [claim(uid, 'web-canary')] }),
      transitionOf(bystander, workerId, now(), { claims: [claim(uid, 'api')] }),
    ]);
    assert.deepEqual(outcome.get(second.id), {
      won: false,
      refusedClaim: { kind: 'Service', namespace: 'default', name: 'web', sameTenant: true, deploymentId: first.id },
    });
    assert.deepEqual(outcome.get(foreign.id), {
      won: false,
      refusedClaim: {
        kind: 'Service',
        namespace: 'default',
        name: 'web-canary',
        sameTenant: false,
        deploymentId: null,
      },
    });
    assert.equal(outcome.get(bystander.id)?.won, true);
    const unmoved = await worker.prisma.deployment.findUniqueOrThrow({ where: { id: second.id } });
    assert.deepEqual([unmoved.version, unmoved.lastEvent], [second.version, 2]);

    // Its own again changes nothing; the final transition frees them.
    const again = { id: first.id, version: first.version + 1 };
    const held = await advanceMany(worker, [transitionOf(again, workerId, now(), { claims: [claim(uid, 'web')] })]);
    assert.equal(held.get(first.id)?.won, true);
    const end = transitionOf({ id: first.id, version: first.version + 2 }, workerId, now(), {
      done: true,
      status: 'FAILED',
    });
    await advanceMany(worker, [end]);
    const then = await advanceMany(worker, [transitionOf(second, workerId, now(), { claims: [claim(uid, 'web')] })]);
    assert.equal(then.get(second.id)?.won, true);
  });

  it('go to one of many that take them at once', async () => {
    const starts = await Promise.all(Array.from({ length: 8 }, () => startTestPipeline(api, org)));
    const rows = await Promise.all(starts.map(({ deploymentIds }) => own(deploymentIds[0]!)));
    const outcomes = await Promise.all(
      rows.map(async (row, index) => {
        const names = index % 2 ? ['left', 'right'] : ['right', 'left'];
        const claims = names.map((name) => claim(org.clusterUid, name));
        return (await advanceMany(worker, [transitionOf(row, workerId, now(), { claims })])).get(row.id);
      }),
    );
    assert.equal(outcomes.filter((outcome) => outcome?.won).length, 1);
    assert.equal(outcomes.filter((outcome) => outcome && 'refusedClaim' in outcome).length, 7);
  });

  it('are known at the start, without a word about other tenants, and only of own clusters', async () => {
    const holder = await own((await startTestPipeline(api, org)).deploymentIds[0]!);
    await advanceMany(worker, [transitionOf(holder, workerId, now(), { claims: [claim(org.clusterUid, 'shop')] })]);
    const refused = { kind: 'Service', namespace: 'default', name: 'shop' };
    const claims = [claim(org.clusterUid, 'shop')];
    assert.deepEqual(await insertPipeline(api, org, { ...pipelineStart(api, org), claims }), {
      refusedClaim: { ...refused, sameTenant: true, deploymentId: holder.id },
    });
    // The rival has not registered that cluster: it learns nothing.
    assert.deepEqual(await insertPipeline(api, rival, { ...pipelineStart(api, rival), claims }), { started: true });
    // A neighbour who has is told of "another owner".
    const neighbour = await withOrganisation(api);
    await withAdmin(url, (admin) =>
      admin.query('update cluster set cluster_uid = $1 where id = $2', [org.clusterUid, neighbour.clusterId]),
    );
    assert.deepEqual(await insertPipeline(api, neighbour, { ...pipelineStart(api, neighbour), claims }), {
      refusedClaim: { ...refused, sameTenant: false, deploymentId: null },
    });
  });
});

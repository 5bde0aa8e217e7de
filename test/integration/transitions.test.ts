import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Database } from '@cdaas/control-plane/db.ts';
import { appendNews } from '@cdaas/control-plane/news.ts';
import {
  claimDue,
  claimDuePipelines,
  holdWorkerLock,
  loadOwned,
  loadPipeline,
  releaseWatchLease,
  takeWatchLease,
} from '@cdaas/control-plane/ownership.ts';
import { findIdempotent, insertPipeline } from '@cdaas/control-plane/start-pipeline.ts';
import { advanceMany, advancePipeline, type Claim, createCommitter } from '@cdaas/control-plane/transitions.ts';
import { openTestDatabase, type TestOrganisation, withOrganisation } from '../support/database.ts';
import { eventOf, pipelineStart, startTestPipeline, transitionOf } from '../support/pipelines.ts';
import { withAdmin } from '../support/postgres.ts';

let open: Awaited<ReturnType<typeof openTestDatabase<'cdaas_api' | 'cdaas_worker'>>>;
let api: Database;
let worker: Database;
let org: TestOrganisation;
let rival: TestOrganisation;
let me: Awaited<ReturnType<typeof holdWorkerLock>>;

before(async () => {
  open = await openTestDatabase('transitions', ['cdaas_api', 'cdaas_worker']);
  api = open.cdaas_api;
  worker = open.cdaas_worker;
  org = await withOrganisation(api);
  rival = await withOrganisation(api);
  me = await holdWorkerLock(worker);
});

after(async () => {
  await me.close();
  await open.close();
});

const now = () => worker.clock.now();
const later = (ms: number) => new Date(now().getTime() + ms);

/** Takes one deployment whatever else is due. */
async function own(id: string, owner = me.workerId): Promise<{ id: string; version: number }> {
  await worker.prisma.deployment.update({ where: { id }, data: { owner, version: { increment: 1 } } });
  const { version } = await worker.prisma.deployment.findUniqueOrThrow({ where: { id } });
  return { id, version };
}

async function numbersOf(pipelineId: string): Promise<number[]> {
  const events = await worker.prisma.event.findMany({ where: { pipelineId }, orderBy: { number: 'asc' } });
  return events.map(({ number }) => number);
}

describe('start_pipeline', () => {
  it('stores pipeline, deployments and numbered events in one call, as given', async () => {
    const start = pipelineStart(api, org, 2);
    assert.deepEqual(await insertPipeline(api, org, start), { started: true });

    const pipeline = await worker.prisma.pipeline.findUniqueOrThrow({
      where: { id: start.pipeline.id },
      include: { deployments: { orderBy: { target: 'asc' } } },
    });
    assert.equal(pipeline.tenantId, org.tenantId);
    assert.equal(pipeline.source, null);
    assert.deepEqual(pipeline.context, { reason: 'test' });
    assert.deepEqual([...pipeline.config], [4, 5, 6]);
    assert.equal(pipeline.wakeAt?.getTime(), start.pipeline.wakeAt?.getTime());
    assert.deepEqual([pipeline.version, pipeline.lastEvent, pipeline.foldedEvent], [0, 3, 1]);
    assert.deepEqual(
      pipeline.deployments.map(({ lastEvent, foldedEvent }) => [lastEvent, foldedEvent]),
      [
        [2, 0],
        [3, 0],
      ],
    );
    assert.deepEqual([...(pipeline.deployments[0]?.plan ?? [])], [1, 2, 3]);
    assert.deepEqual(await numbersOf(start.pipeline.id), [1, 2, 3]);
  });

  it('names the pipeline of the same application that runs, and starts once it is final', async () => {
    const first = pipelineStart(api, org);
    await insertPipeline(api, org, first);
    const second = pipelineStart(api, org);
    second.pipeline.application = first.pipeline.application;
    assert.deepEqual(await insertPipeline(api, org, second), { blockedBy: first.pipeline.id });
    assert.equal(await worker.prisma.deployment.count({ where: { pipelineId: second.pipeline.id } }), 0);

    const elsewhere = pipelineStart(api, rival);
    elsewhere.pipeline.application = first.pipeline.application;
    assert.deepEqual(await insertPipeline(api, rival, elsewhere), { started: true });

    await worker.prisma.pipeline.update({ where: { id: first.pipeline.id }, data: { status: 'FAILED' } });
    assert.deepEqual(await insertPipeline(api, org, second), { started: true });
  });

  it('lets one of many starts at once through', async () => {
    const starts = Array.from({ length: 8 }, () => pipelineStart(api, org));
    for (const { pipeline } of starts) pipeline.application = 'contended';
    const results = await Promise.all(starts.map((start) => insertPipeline(api, org, start)));
    assert.equal(results.filter((result) => 'started' in result).length, 1);
    assert.equal(results.filter((result) => 'blockedBy' in result).length, 7);
  });

  it('gives a repeated request its first answer and stores nothing', async () => {
    const request = {
      principal: 'ci',
      route: 'POST /pipelines',
      key: 'k1',
      bodyHash: 'h1',
      status: 202,
      response: { a: 1 },
    };
    assert.equal(await findIdempotent(api, org, request), null);
    assert.deepEqual(await insertPipeline(api, org, { ...pipelineStart(api, org), idempotency: request }), {
      started: true,
    });

    const again = { ...pipelineStart(api, org), idempotency: { ...request, bodyHash: 'h2', response: { a: 2 } } };
    const first = { status: 202, response: { a: 1 }, bodyHash: 'h1' };
    assert.deepEqual(await insertPipeline(api, org, again), { replay: first });
    assert.deepEqual(await findIdempotent(api, org, request), first);
    assert.equal(await worker.prisma.pipeline.count({ where: { id: again.pipeline.id } }), 0);

    const other = { ...org, tenantId: org.otherTenantId };
    assert.equal(await findIdempotent(api, other, request), null);
  });

  it('stores one of many equal requests at once; the others hear of it or that it runs', async () => {
    const request = { principal: 'ci', route: 'POST /pipelines', key: 'k2', bodyHash: 'h', status: 202, response: {} };
    const results = await Promise.all(
      Array.from({ length: 8 }, () => insertPipeline(api, org, { ...pipelineStart(api, org), idempotency: request })),
    );
    assert.equal(results.filter((result) => 'started' in result).length, 1);
    assert.equal(results.filter((result) => 'replay' in result || 'running' in result).length, 7);
  });

  it("refuses a cluster that is gone or another tenant's", async () => {
    const start = pipelineStart(api, org);
    start.deployments[0]!.clusterId = rival.clusterId;
    assert.deepEqual(await insertPipeline(api, org, start), { missingCluster: rival.clusterId });
  });
});

describe('advance_many', () => {
  it('moves a row once: an old version, another owner and a final row lose', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    const committer = createCommitter(worker);

    const first = await committer.commit(transitionOf(row, me.workerId, now(), { startedAt: now(), phase: 'S1' }));
    assert.deepEqual(first, { won: true, version: row.version + 1, number: 3 });
    assert.deepEqual(await committer.commit(transitionOf(row, me.workerId, now())), { won: false });
    const known = { id: row.id, version: row.version + 1 };
    assert.deepEqual(await committer.commit(transitionOf(known, me.workerId + 1, now())), { won: false });
    assert.deepEqual(await committer.commit(transitionOf(known, null, now())), { won: false });

    const end = await committer.commit(
      transitionOf(known, me.workerId, now(), { done: true, status: 'SUCCEEDED', completedAt: now() }),
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
    const outcome = await advanceMany(worker, [transitionOf(row, me.workerId, at, { events })]);
    assert.deepEqual(outcome.get(row.id), { won: true, version: row.version + 1, number: 4 });

    const stored = await worker.prisma.event.findMany({ where: { deploymentId: row.id, number: { gt: 2 } } });
    assert.deepEqual(
      stored.map(({ number, type, data, message, at }) => ({ number, type, data, message, at })),
      [
        { number: 3, type: 'first', data: { of: 'first' }, message: 'it was first', at },
        { number: 4, type: 'second', data: { deep: [1, null] }, message: null, at },
      ],
    );
    const [loaded] = await loadOwned(worker, me.workerId, [row.id]);
    assert.deepEqual(loaded?.news, []);

    const silent = { id: row.id, version: row.version + 1 };
    const quiet = await advanceMany(worker, [transitionOf(silent, me.workerId, at, { events: [] })]);
    assert.deepEqual(quiet.get(row.id), { won: true, version: row.version + 2, number: 4 });
  });

  it('makes the pipeline due in the transaction of the final transition, and lets go where asked', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org, 2);
    await worker.prisma.pipeline.update({ where: { id: pipelineId }, data: { wakeAt: null } });
    const [first, second] = [await own(deploymentIds[0]!), await own(deploymentIds[1]!)];
    await advanceMany(worker, [
      transitionOf(first, me.workerId, now(), { release: true, wakeAt: later(3_600_000) }),
      transitionOf(second, me.workerId, now(), { done: true, status: 'FAILED' }),
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
          const outcome = await committer.commit(transitionOf({ id: row.id, version }, me.workerId, now(), { events }));
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
      ...Array.from({ length: 8 }, () => advanceMany(worker, [transitionOf(row, me.workerId, now())])),
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
    const [good, bad, alsoGood] = rows.map((row) => transitionOf(row, me.workerId, now()));
    // NUL is what jsonb cannot hold.
    const results = await Promise.allSettled([
      committer.commit(good!),
      committer.commit({ ...bad!, state: { text: '\u0000' } }),
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

  it('remembers what was there before a change from the first time on', async () => {
    const { deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    const object = { slot: 'root', apiVersion: 'v1', kind: 'Service', namespace: 'default', name: 'web' };
    const changed = { ...object, action: 'changed' as const };
    await advanceMany(worker, [
      transitionOf(row, me.workerId, now(), {
        owned: [{ ...changed, previous: Uint8Array.of(7), resourceVersion: '1' }],
      }),
    ]);
    const next = { id: row.id, version: row.version + 1 };
    await advanceMany(worker, [
      transitionOf(next, me.workerId, now(), {
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
    await withAdmin(open.url, async (client) => {
      let told = 0;
      client.on('notification', () => {
        told++;
      });
      await client.query('listen cdaas_events');
      await advanceMany(
        worker,
        rows.map((row) => transitionOf(row, me.workerId, now())),
      );
      await client.query('select 1');
      assert.equal(told, 1);
      const quiet = rows.map(({ id, version }) =>
        transitionOf({ id, version: version + 1 }, me.workerId, now(), { events: [] }),
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
      transitionOf(first, me.workerId, now(), { claims: [claim(uid, 'web'), claim(uid, 'web-canary')] }),
    ]);
    const outcome = await advanceMany(worker, [
      transitionOf(second, me.workerId, now(), { claims: [claim(uid, 'api'), claim(uid, 'web')] }),
      transitionOf(foreign, me.workerId, now(), { claims: [claim(uid, 'web-canary')] }),
      transitionOf(bystander, me.workerId, now(), { claims: [claim(uid, 'api')] }),
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
    const held = await advanceMany(worker, [transitionOf(again, me.workerId, now(), { claims: [claim(uid, 'web')] })]);
    assert.equal(held.get(first.id)?.won, true);
    const end = transitionOf({ id: first.id, version: first.version + 2 }, me.workerId, now(), {
      done: true,
      status: 'FAILED',
    });
    await advanceMany(worker, [end]);
    const then = await advanceMany(worker, [transitionOf(second, me.workerId, now(), { claims: [claim(uid, 'web')] })]);
    assert.equal(then.get(second.id)?.won, true);
  });

  it('go to one of many that take them at once', async () => {
    const starts = await Promise.all(Array.from({ length: 8 }, () => startTestPipeline(api, org)));
    const rows = await Promise.all(starts.map(({ deploymentIds }) => own(deploymentIds[0]!)));
    const outcomes = await Promise.all(
      rows.map(async (row, index) => {
        const names = index % 2 ? ['left', 'right'] : ['right', 'left'];
        const claims = names.map((name) => claim(org.clusterUid, name));
        return (await advanceMany(worker, [transitionOf(row, me.workerId, now(), { claims })])).get(row.id);
      }),
    );
    assert.equal(outcomes.filter((outcome) => outcome?.won).length, 1);
    assert.equal(outcomes.filter((outcome) => outcome && 'refusedClaim' in outcome).length, 7);
  });

  it('are known at the start, without a word about other tenants, and only of own clusters', async () => {
    const holder = await own((await startTestPipeline(api, org)).deploymentIds[0]!);
    await advanceMany(worker, [transitionOf(holder, me.workerId, now(), { claims: [claim(org.clusterUid, 'shop')] })]);
    const refused = { kind: 'Service', namespace: 'default', name: 'shop' };
    const claims = [claim(org.clusterUid, 'shop')];
    assert.deepEqual(await insertPipeline(api, org, { ...pipelineStart(api, org), claims }), {
      refusedClaim: { ...refused, sameTenant: true, deploymentId: holder.id },
    });
    // The rival has not registered that cluster: it learns nothing.
    assert.deepEqual(await insertPipeline(api, rival, { ...pipelineStart(api, rival), claims }), { started: true });
    // A neighbour who has is told of "another owner".
    const neighbour = await withOrganisation(api);
    await withAdmin(open.url, (admin) =>
      admin.query('update cluster set cluster_uid = $1 where id = $2', [org.clusterUid, neighbour.clusterId]),
    );
    assert.deepEqual(await insertPipeline(api, neighbour, { ...pipelineStart(api, neighbour), claims }), {
      refusedClaim: { ...refused, sameTenant: false, deploymentId: null },
    });
  });
});

describe('append_news', () => {
  it('adds an event, makes the driver due and its pending commit fail', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    await advanceMany(worker, [transitionOf(row, me.workerId, now(), { wakeAt: null })]);
    const known = { id: row.id, version: row.version + 1 };

    const [result] = await appendNews(api, org, [{ deploymentId: row.id, type: 'approved', data: { by: 'ci' } }]);
    assert.deepEqual(result, { appended: true, pipelineId, number: 4, owner: me.workerId });
    const pending = await advanceMany(worker, [transitionOf(known, me.workerId, now())]);
    assert.equal(pending.size, 0);

    const { news } = await claimDue(worker, me.workerId, 0);
    assert.ok(news.some(({ id, version }) => id === row.id && version === known.version + 1));
    const [loaded] = await loadOwned(worker, me.workerId, [row.id]);
    assert.deepEqual(
      loaded?.news.map(({ number, type, data }) => ({ number, type, data })),
      [{ number: 4, type: 'approved', data: { by: 'ci' } }],
    );
    assert.ok(loaded?.news[0]?.at instanceof Date && loaded.wakeAt instanceof Date);
    const folded = await advanceMany(worker, [transitionOf(loaded!, me.workerId, now(), { events: [] })]);
    assert.equal(folded.get(row.id)?.won, true);
    const after = await claimDue(worker, me.workerId, 0);
    assert.ok(after.news.every(({ id }) => id !== row.id));
  });

  it('refuses what is final, has a status that forbids it, is missing, or is not the scope’s own', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org, 3);
    const [done, finishing, running] = [deploymentIds[0]!, deploymentIds[1]!, deploymentIds[2]!];
    await advanceMany(worker, [
      transitionOf(await own(done), me.workerId, now(), { done: true, status: 'SUCCEEDED' }),
      transitionOf(await own(finishing), me.workerId, now(), { status: 'FINISHING' }),
    ]);
    const foreign = (await startTestPipeline(api, rival)).deploymentIds[0]!;
    const news = (deploymentId: string) => ({
      deploymentId,
      type: 'rollBackRequested',
      data: {},
      unlessStatus: ['FINISHING'],
    });
    const results = await appendNews(api, org, [done, finishing, foreign, org.clusterId, running].map(news));
    assert.deepEqual(results.slice(0, 4), [
      { appended: false, reason: 'final', status: 'SUCCEEDED' },
      { appended: false, reason: 'status', status: 'FINISHING' },
      { appended: false, reason: 'missing', status: null },
      { appended: false, reason: 'missing', status: null },
    ]);
    assert.deepEqual(results[4], { appended: true, pipelineId, number: 7, owner: null });
    assert.deepEqual(await numbersOf(pipelineId), [1, 2, 3, 4, 5, 6, 7]);
  });

  it('takes several events for several deployments in one call, numbered in order', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org, 2);
    const [a, b] = [deploymentIds[0]!, deploymentIds[1]!];
    const results = await appendNews(
      worker,
      null,
      [a, b, a].map((deploymentId) => ({ deploymentId, type: 'observed', data: {} })),
    );
    assert.deepEqual(
      results.map((result) => result.appended && result.number),
      [4, 5, 6],
    );
    const rows = await worker.prisma.deployment.findMany({ where: { pipelineId }, orderBy: { target: 'asc' } });
    assert.deepEqual(
      rows.map(({ version, lastEvent }) => [version, lastEvent]),
      [
        [1, 6],
        [1, 5],
      ],
    );
  });

  it('refuses what was observed under a watch lease that was taken over', async () => {
    const { deploymentIds } = await startTestPipeline(api, org);
    const { clusterId } = await withOrganisation(api);
    const lease = await takeWatchLease(worker, me.workerId, clusterId);
    assert.deepEqual(lease, { owner: me.workerId, epoch: 1 });
    const observed = { deploymentId: deploymentIds[0]!, type: 'observed', data: {}, observed: { clusterId, epoch: 1 } };
    assert.equal((await appendNews(worker, null, [observed]))[0]?.appended, true);

    const other = await holdWorkerLock(worker);
    assert.deepEqual(await takeWatchLease(worker, other.workerId, clusterId), lease);
    await releaseWatchLease(worker, me.workerId, clusterId);
    assert.deepEqual(await takeWatchLease(worker, other.workerId, clusterId), { owner: other.workerId, epoch: 2 });
    assert.deepEqual(await appendNews(worker, null, [observed]), [
      { appended: false, reason: 'epoch', status: 'NOT_STARTED' },
    ]);
    await other.close();
    assert.deepEqual(await takeWatchLease(worker, me.workerId, clusterId), { owner: me.workerId, epoch: 3 });
  });

  it('wakes a pipeline itself, unless it is final', async () => {
    const { pipelineId } = await startTestPipeline(api, org);
    await worker.prisma.pipeline.update({ where: { id: pipelineId }, data: { wakeAt: null } });
    const cancel = { pipelineId, type: 'cancelRequested', data: {} };
    assert.deepEqual(await appendNews(api, org, [cancel]), [{ appended: true, pipelineId, number: 3, owner: null }]);
    const pipeline = await worker.prisma.pipeline.findUniqueOrThrow({ where: { id: pipelineId } });
    assert.ok(pipeline.version === 1 && pipeline.wakeAt !== null);
    await worker.prisma.pipeline.update({ where: { id: pipelineId }, data: { status: 'CANCELLED' } });
    assert.deepEqual(await appendNews(api, org, [cancel]), [{ appended: false, reason: 'final', status: 'CANCELLED' }]);
    assert.deepEqual(await appendNews(api, rival, [cancel]), [{ appended: false, reason: 'missing', status: null }]);
  });
});

describe('claim_due', () => {
  /** Nothing of earlier tests is due or owned any more. */
  async function quiet() {
    await worker.prisma.deployment.updateMany({ data: { wakeAt: null, owner: null } });
    await worker.prisma.pipeline.updateMany({ data: { wakeAt: null, owner: null } });
  }

  it('takes what is due and free, bumps its version and hands out plan, state and unfolded events', async () => {
    await quiet();
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org);
    const { taken } = await claimDue(worker, me.workerId, 16);
    assert.deepEqual(
      taken.map(({ id }) => id),
      deploymentIds,
    );
    const row = taken[0]!;
    assert.deepEqual([...row.plan], [1, 2, 3]);
    assert.deepEqual(row.state, { step: 0 });
    assert.deepEqual(
      row.news.map(({ number, type }) => [number, type]),
      [[2, 'started']],
    );
    assert.deepEqual(
      [row.pipelineId, row.organisationId, row.tenantId, row.clusterId, row.version, row.done],
      [pipelineId, org.organisationId, org.tenantId, org.clusterId, 1, false],
    );
    const again = await claimDue(worker, me.workerId, 16);
    assert.deepEqual(again, { taken: [], news: [{ id: row.id, version: 1 }] });
  });

  it('leaves what is not due, takes over at once what a dead worker left, and from a live one what is 20 s overdue', async () => {
    await quiet();
    const { deploymentIds } = await startTestPipeline(api, org, 4);
    const other = await holdWorkerLock(worker);
    const [future, dead, busy, overdue] = deploymentIds.map((id) => id);
    const set = (id: string, owner: number | null, wakeAt: Date | null) =>
      worker.prisma.deployment.update({ where: { id }, data: { owner, wakeAt } });
    await set(future!, null, later(60_000));
    await set(dead!, 5, later(60_000));
    await set(busy!, other.workerId, later(-19_000));
    await set(overdue!, other.workerId, later(-21_000));
    const first = await claimDue(worker, me.workerId, 16);
    assert.deepEqual(first.taken.map(({ id }) => id).sort(), [dead, overdue].sort());
    await other.close();
    const second = await claimDue(worker, me.workerId, 16);
    assert.deepEqual(
      second.taken.map(({ id }) => id),
      [busy],
    );
  });

  it('goes round organisations, so that a large one does not hold up a small one', async () => {
    await quiet();
    const big = await startTestPipeline(api, org, 8);
    const small = await startTestPipeline(api, rival, 2);
    const { taken } = await claimDue(worker, me.workerId, 4);
    assert.equal(taken.filter(({ pipelineId }) => pipelineId === big.pipelineId).length, 2);
    assert.equal(taken.filter(({ pipelineId }) => pipelineId === small.pipelineId).length, 2);
  });

  it('gives each row to one of several workers that ask at once, without waiting', async () => {
    await quiet();
    const { deploymentIds } = await startTestPipeline(api, org, 24);
    const others = await Promise.all(Array.from({ length: 6 }, () => holdWorkerLock(worker)));
    const claims = await Promise.all(others.map(({ workerId }) => claimDue(worker, workerId, 8)));
    const ids = claims.flatMap(({ taken }) => taken.map(({ id }) => id));
    assert.equal(new Set(ids).size, ids.length);
    // Rows that two saw at once and one got may be left for the next query.
    const rest = await Promise.all(others.map(({ workerId }) => claimDue(worker, workerId, 8)));
    ids.push(...rest.flatMap(({ taken }) => taken.map(({ id }) => id)));
    const last = await claimDue(worker, me.workerId, 24);
    ids.push(...last.taken.map(({ id }) => id));
    assert.deepEqual(ids.sort(), [...deploymentIds].sort());
    for (const other of others) await other.close();
  });

  it('ignores workers of another database of the same server', async () => {
    await quiet();
    const { deploymentIds } = await startTestPipeline(api, org);
    const elsewhere = await openTestDatabase('elsewhere', ['cdaas_worker']);
    const stranger = await holdWorkerLock(elsewhere.cdaas_worker);
    await worker.prisma.deployment.update({
      where: { id: deploymentIds[0]! },
      data: { owner: stranger.workerId, wakeAt: null },
    });
    const { taken } = await claimDue(worker, me.workerId, 16);
    assert.deepEqual(
      taken.map(({ id }) => id),
      deploymentIds,
    );
    await stranger.close();
    await elsewhere.close();
  });
});

describe('advance_pipeline', () => {
  it('decides once, lets go, and tells deployments with numbered events', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org, 2);
    await worker.prisma.deployment.updateMany({ where: { pipelineId }, data: { wakeAt: null } });
    const taken = await claimDuePipelines(worker, me.workerId, 100);
    const row = taken.find(({ id }) => id === pipelineId)!;
    assert.deepEqual(row.news, []);
    assert.deepEqual(
      row.deployments.map(({ id, status, done }) => [id, status, done]),
      deploymentIds.map((id) => [id, 'NOT_STARTED', false]),
    );
    assert.equal((await loadPipeline(worker, me.workerId, pipelineId))?.version, row.version);

    const decision = {
      id: pipelineId,
      version: row.version,
      owner: me.workerId,
      state: { decided: 1 },
      status: 'RUNNING',
      wakeAt: null,
      startedAt: now(),
      events: [eventOf('began', now())],
      deployments: [
        { id: deploymentIds[1]!, status: 'WAITING' },
        { id: deploymentIds[0]!, event: eventOf('started', now()) },
      ],
    };
    const outcome = await advancePipeline(worker, decision);
    assert.ok(outcome.won);
    assert.deepEqual([outcome.version, outcome.number], [row.version + 1, 5]);
    assert.deepEqual(outcome.woken.map(({ id }) => id).sort(), [...deploymentIds].sort());
    assert.deepEqual(await advancePipeline(worker, decision), { won: false });

    const stored = await worker.prisma.pipeline.findUniqueOrThrow({
      where: { id: pipelineId },
      include: { deployments: { orderBy: { target: 'asc' } } },
    });
    assert.deepEqual([stored.owner, stored.wakeAt, stored.lastEvent, stored.foldedEvent], [null, null, 5, 4]);
    assert.deepEqual(
      stored.deployments.map(({ status, version, lastEvent }) => [status, version, lastEvent]),
      [
        ['NOT_STARTED', 1, 5],
        ['WAITING', 1, 3],
      ],
    );
    assert.ok(stored.deployments.every(({ wakeAt }) => wakeAt !== null));
  });

  it('loses to news and to the end of a deployment that came in between', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org);
    const load = async () => (await claimDuePipelines(worker, me.workerId, 100)).find(({ id }) => id === pipelineId)!;
    const decide = (version: number) =>
      advancePipeline(worker, {
        id: pipelineId,
        version,
        owner: me.workerId,
        state: {},
        status: 'RUNNING',
        wakeAt: null,
        events: [],
      });

    const first = await load();
    await appendNews(api, org, [{ pipelineId, type: 'cancelRequested', data: {} }]);
    assert.deepEqual(await decide(first.version), { won: false });
    const second = (await loadPipeline(worker, me.workerId, pipelineId))!;
    assert.deepEqual(
      second.news.map(({ type }) => type),
      ['cancelRequested'],
    );
    await advanceMany(worker, [
      transitionOf(await own(deploymentIds[0]!), me.workerId, now(), { done: true, status: 'CANCELLED' }),
    ]);
    assert.deepEqual(await decide(second.version), { won: false });
    const third = (await loadPipeline(worker, me.workerId, pipelineId))!;
    assert.equal(third.deployments[0]?.done, true);
    assert.equal((await decide(third.version)).won, true);
  });

  it('never moves a final pipeline', async () => {
    const { pipelineId } = await startTestPipeline(api, org);
    const base = { id: pipelineId, owner: null, state: {}, wakeAt: null, events: [] };
    assert.equal(
      (await advancePipeline(worker, { ...base, version: 0, status: 'FAILED', completedAt: now() })).won,
      true,
    );
    assert.deepEqual(await advancePipeline(worker, { ...base, version: 1, status: 'RUNNING' }), { won: false });
  });
});

describe('the worker lock', () => {
  it('is retaken under the same id when its connection is lost', async () => {
    let lost = 0;
    const held = await holdWorkerLock(worker, { onLost: () => lost++ });
    const isHeld = () =>
      withAdmin(open.url, async (admin) => {
        const { rows } = await admin.query<{ held: boolean }>('select $1 = any (live_workers()) as held', [
          held.workerId,
        ]);
        return rows[0]?.held === true;
      });
    assert.equal(await isHeld(), true);
    await withAdmin(open.url, (admin) =>
      admin.query('select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1', [
        `cdaas worker ${held.workerId}`,
      ]),
    );
    while (!(await isHeld()));
    assert.ok(lost >= 1);
    await held.close();
    while (await isHeld());
  });
});

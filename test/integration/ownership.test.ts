import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { appendNews } from '@cdaas/control-plane/news.ts';
import {
  claimDue,
  holdWorkerLock,
  loadOwned,
  releaseWatchLease,
  takeWatchLease,
} from '@cdaas/control-plane/ownership.ts';
import { advanceMany } from '@cdaas/control-plane/transitions.ts';
import { openTestDatabase, withOrganisation } from '../support/database.ts';
import { type Driving, openDriving, startTestPipeline, transitionOf } from '../support/pipelines.ts';
import { withAdmin } from '../support/postgres.ts';
import { until } from '../support/until.ts';

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
  driving = await openDriving('ownership');
  ({ url, api, worker, org, rival, workerId, now, later, own, numbersOf } = driving);
});

after(() => driving.close());

describe('append_news', () => {
  it('adds an event, makes the driver due and its pending commit fail', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org);
    const row = await own(deploymentIds[0]!);
    await advanceMany(worker, [transitionOf(row, workerId, now(), { wakeAt: null })]);
    const known = { id: row.id, version: row.version + 1 };

    const [result] = await appendNews(api, org, [{ deploymentId: row.id, type: 'approved', data: { by: 'ci' } }]);
    assert.deepEqual(result, { appended: true, pipelineId, number: 4, owner: workerId });
    const pending = await advanceMany(worker, [transitionOf(known, workerId, now())]);
    assert.equal(pending.size, 0);

    const { news } = await claimDue(worker, workerId, 0);
    assert.ok(news.some(({ id, version }) => id === row.id && version === known.version + 1));
    const [loaded] = await loadOwned(worker, workerId, [row.id]);
    assert.deepEqual(
      loaded?.news.map(({ number, type, data }) => ({ number, type, data })),
      [{ number: 4, type: 'approved', data: { by: 'ci' } }],
    );
    assert.ok(loaded?.news[0]?.at instanceof Date);
    const folded = await advanceMany(worker, [transitionOf(loaded!, workerId, now(), { events: [] })]);
    assert.equal(folded.get(row.id)?.won, true);
    const after = await claimDue(worker, workerId, 0);
    assert.ok(after.news.every(({ id }) => id !== row.id));
  });

  it('refuses what is final, has a status that forbids it, is missing, or is not the scope’s own', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org, 3);
    const [done, finishing, running] = [deploymentIds[0]!, deploymentIds[1]!, deploymentIds[2]!];
    await advanceMany(worker, [
      transitionOf(await own(done), workerId, now(), { done: true, status: 'SUCCEEDED' }),
      transitionOf(await own(finishing), workerId, now(), { status: 'FINISHING' }),
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

  it('takes what is to come once a single time for each thing it names, however many ask at once', async () => {
    const { deploymentIds } = await startTestPipeline(api, org, 2);
    const [one, other] = [deploymentIds[0]!, deploymentIds[1]!];
    const approve = async (deploymentId: string, ref: string, by: string) => {
      const [result] = await appendNews(api, org, [{ deploymentId, type: 'approved', data: { ref, by }, once: true }]);
      return result?.appended ? 'taken' : result?.reason;
    };
    const asked = await Promise.all(['ann', 'bob', 'cid'].map((by) => approve(one, 'canary-step-2', by)));
    assert.deepEqual(asked.sort(), ['repeated', 'repeated', 'taken']);
    assert.equal(await approve(one, 'canary-step-3', 'ann'), 'taken');
    assert.equal(await approve(other, 'canary-step-2', 'ann'), 'taken');
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
    const lease = await takeWatchLease(worker, workerId, clusterId);
    assert.deepEqual(lease, { owner: workerId, epoch: 1 });
    const observed = { deploymentId: deploymentIds[0]!, type: 'observed', data: {}, observed: { clusterId, epoch: 1 } };
    assert.equal((await appendNews(worker, null, [observed]))[0]?.appended, true);

    const other = await holdWorkerLock(worker);
    assert.deepEqual(await takeWatchLease(worker, other.workerId, clusterId), lease);
    await releaseWatchLease(worker, workerId, clusterId);
    assert.deepEqual(await takeWatchLease(worker, other.workerId, clusterId), { owner: other.workerId, epoch: 2 });
    assert.deepEqual(await appendNews(worker, null, [observed]), [
      { appended: false, reason: 'epoch', status: 'NOT_STARTED' },
    ]);
    await other.close();
    assert.deepEqual(await takeWatchLease(worker, workerId, clusterId), { owner: workerId, epoch: 3 });
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
    const { taken } = await claimDue(worker, workerId, 16);
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
      [row.pipelineId, row.organisationId, row.tenantId, row.clusterId, row.version],
      [pipelineId, org.organisationId, org.tenantId, org.clusterId, 1],
    );
    const again = await claimDue(worker, workerId, 16);
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
    const first = await claimDue(worker, workerId, 16);
    assert.deepEqual(first.taken.map(({ id }) => id).sort(), [dead, overdue].sort());
    await other.close();
    const second = await claimDue(worker, workerId, 16);
    assert.deepEqual(
      second.taken.map(({ id }) => id),
      [busy],
    );
  });

  it('goes round organisations, so that a large one does not hold up a small one', async () => {
    await quiet();
    const big = await startTestPipeline(api, org, 8);
    const small = await startTestPipeline(api, rival, 2);
    const { taken } = await claimDue(worker, workerId, 4);
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
    const last = await claimDue(worker, workerId, 24);
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
    const { taken } = await claimDue(worker, workerId, 16);
    assert.deepEqual(
      taken.map(({ id }) => id),
      deploymentIds,
    );
    await stranger.close();
    await elsewhere.close();
  });
});

describe('the worker lock', () => {
  it('is retaken under the same id when its connection is lost', async () => {
    let lost = 0;
    const held = await holdWorkerLock(worker, { onLost: () => lost++ });
    const isHeld = () =>
      withAdmin(url, async (admin) => {
        const { rows } = await admin.query<{ held: boolean }>('select $1 = any (live_workers()) as held', [
          held.workerId,
        ]);
        return rows[0]?.held === true;
      });
    assert.equal(await isHeld(), true);
    await withAdmin(url, (admin) =>
      admin.query('select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1', [
        `cdaas worker ${held.workerId}`,
      ]),
    );
    await until(isHeld, 'the lock to be held again');
    assert.ok(lost >= 1);
    await held.close();
    await until(async () => !(await isHeld()), 'the lock to be let go');
  });
});

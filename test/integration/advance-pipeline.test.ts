import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { advancePipeline as driveOnce } from '@cdaas/control-plane/advance-pipeline.ts';
import { appendNews } from '@cdaas/control-plane/news.ts';
import { claimDuePipelines, loadPipeline } from '@cdaas/control-plane/ownership.ts';
import { advanceMany, advancePipeline } from '@cdaas/control-plane/transitions.ts';
import { initialPipelineState } from '@cdaas/pipeline/pipeline-machine.ts';
import { type Driving, eventOf, openDriving, startTestPipeline, transitionOf } from '../support/pipelines.ts';

let driving: Driving;
let api: Driving['api'];
let worker: Driving['worker'];
let org: Driving['org'];
let workerId: Driving['workerId'];
let now: Driving['now'];
let own: Driving['own'];

before(async () => {
  driving = await openDriving('advance_pipeline');
  ({ api, worker, org, workerId, now, own } = driving);
});

after(() => driving.close());

describe('advance_pipeline', () => {
  it('decides once, lets go, and tells deployments with numbered events', async () => {
    const { pipelineId, deploymentIds } = await startTestPipeline(api, org, 2);
    await worker.prisma.deployment.updateMany({ where: { pipelineId }, data: { wakeAt: null } });
    const taken = await claimDuePipelines(worker, workerId, 100);
    const row = taken.find(({ id }) => id === pipelineId)!;
    assert.deepEqual(row.news, []);
    assert.deepEqual(
      row.deployments.map(({ id, status }) => [id, status]),
      deploymentIds.map((id) => [id, 'NOT_STARTED']),
    );
    assert.equal((await loadPipeline(worker, workerId, pipelineId))?.version, row.version);

    const decision = {
      id: pipelineId,
      version: row.version,
      owner: workerId,
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
    const load = async () => (await claimDuePipelines(worker, workerId, 100)).find(({ id }) => id === pipelineId)!;
    const decide = (version: number) =>
      advancePipeline(worker, {
        id: pipelineId,
        version,
        owner: workerId,
        state: {},
        status: 'RUNNING',
        wakeAt: null,
        events: [],
      });

    const first = await load();
    await appendNews(api, org, [{ pipelineId, type: 'cancelRequested', data: {} }]);
    assert.deepEqual(await decide(first.version), { won: false });
    const second = (await loadPipeline(worker, workerId, pipelineId))!;
    assert.deepEqual(
      second.news.map(({ type }) => type),
      ['cancelRequested'],
    );
    await advanceMany(worker, [
      transitionOf(await own(deploymentIds[0]!), workerId, now(), { done: true, status: 'CANCELLED' }),
    ]);
    assert.deepEqual(await decide(second.version), { won: false });
    const third = (await loadPipeline(worker, workerId, pipelineId))!;
    assert.equal(third.deployments[0]?.status, 'CANCELLED');
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

describe('A worker that claimed a pipeline', () => {
  it('leaves it when its decision loses and the row is as it was', async () => {
    const { pipelineId } = await startTestPipeline(api, org);
    const claimed = (await claimDuePipelines(worker, workerId, 100)).find(({ id }) => id === pipelineId)!;
    let decided = 0;
    const sql: Driving['worker']['sql'] = async (name, text, values) => {
      if (name !== 'advance_pipeline') return worker.sql(name, text, values);
      decided += 1;
      if (decided > 3) throw new Error('it goes on for ever');
      return [];
    };
    const deps = {
      db: { ...worker, sql },
      clock: { now },
      queue: { enqueueWake: async () => {} },
      workerId,
      wake() {},
    };
    await driveOnce(deps, { ...claimed, state: initialPipelineState([]) as never, deployments: [] });
    assert.equal(decided, 1);
  });
});

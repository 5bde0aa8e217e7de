import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { advancePipeline } from '@cdaas/control-plane/advance-pipeline.ts';
import { appendNews } from '@cdaas/control-plane/news.ts';
import { claimDue, claimDuePipelines } from '@cdaas/control-plane/ownership.ts';
import { insertPipeline } from '@cdaas/control-plane/start-pipeline.ts';
import { advanceMany } from '@cdaas/control-plane/transitions.ts';
import { decidePipeline, initialPipelineState } from '@cdaas/pipeline/pipeline-machine.ts';
import { type Driving, openDriving, pipelineStart, transitionOf } from '../support/pipelines.ts';

let driving: Driving;
let api: Driving['api'];
let worker: Driving['worker'];
let org: Driving['org'];
let workerId: Driving['workerId'];
let now: Driving['now'];

before(async () => {
  driving = await openDriving('dependants');
  ({ api, worker, org, workerId, now } = driving);
});

after(() => driving.close());

/** A pipeline of two targets, of which the second depends on the first, as a start stores it. */
async function startChain(): Promise<{ pipelineId: string; first: string; second: string }> {
  const start = pipelineStart(api, org, 2);
  const [one, two] = start.deployments;
  assert.ok(one && two);
  const initial = initialPipelineState([one, { ...two, dependsOn: [one.target] }]);
  const { state, effects } = decidePipeline(initial, { type: 'pipelineStarted', at: now().toISOString() });
  assert.deepEqual(effects, [{ kind: 'startDeployment', deployment: one.id }]);
  const stored = await insertPipeline(api, org, {
    ...start,
    pipeline: { ...start.pipeline, state, due: false },
    deployments: [one, { ...two, status: 'WAITING', due: false }],
    events: start.events.filter(({ deploymentId }) => deploymentId !== two.id),
  });
  assert.deepEqual(stored, { started: true });
  return { pipelineId: start.pipeline.id, first: one.id, second: two.id };
}

const end = async (id: string, status: 'SUCCEEDED' | 'FAILED') =>
  advanceMany(worker, [transitionOf(await driving.own(id), workerId, now(), { done: true, status })]);

async function claim(pipelineId: string) {
  return (await claimDuePipelines(worker, workerId, 100)).find(({ id }) => id === pipelineId);
}

/** What a decision does beside the database. */
function doer() {
  const woken: string[] = [];
  const deps = {
    db: worker,
    clock: worker.clock,
    workerId,
    queue: {
      async enqueueWake(kind: string, id: string, owner?: number | null) {
        woken.push(`${kind} ${id} of ${owner ?? 'nobody'}`);
      },
    },
    wake: (id: string) => void woken.push(`own ${id}`),
  };
  return { deps, woken };
}

async function toldTo(deploymentId: string) {
  const events = await worker.prisma.event.findMany({ where: { deploymentId }, orderBy: { number: 'asc' } });
  return events.map(({ type, data, message }) => ({ type, data, message }));
}

describe('What depends on a deployment', () => {
  it('is nobody’s to take while it waits', async () => {
    const { pipelineId, second } = await startChain();
    assert.equal(await claim(pipelineId), undefined);
    const { taken } = await claimDue(worker, workerId, 100);
    assert.ok(taken.every(({ id }) => id !== second));
  });

  it('begins by the decision on its end, which makes the pipeline due in the same transaction', async () => {
    const { pipelineId, first, second } = await startChain();
    const before = await worker.prisma.pipeline.findUniqueOrThrow({ where: { id: pipelineId } });
    await end(first, 'SUCCEEDED');
    const due = await worker.prisma.pipeline.findUniqueOrThrow({ where: { id: pipelineId } });
    assert.equal(before.wakeAt, null);
    assert.ok(due.wakeAt);
    assert.equal(due.version, before.version + 1);

    const claimed = await claim(pipelineId);
    assert.ok(claimed);
    const { deps, woken } = doer();
    await advancePipeline(deps, claimed);
    assert.deepEqual(woken, [`deployment ${second} of nobody`]);
    assert.deepEqual(await toldTo(second), [
      { type: 'started', data: {}, message: 'Target target-1: deployment begins; target-0 SUCCEEDED' },
    ]);
    const { taken } = await claimDue(worker, workerId, 100);
    assert.ok(taken.some(({ id }) => id === second));
    assert.equal((await worker.prisma.pipeline.findUniqueOrThrow({ where: { id: pipelineId } })).owner, null);
  });

  it('begins once, however many decide on the same end', async () => {
    const { pipelineId, first, second } = await startChain();
    await end(first, 'SUCCEEDED');
    const claimed = await claim(pipelineId);
    assert.ok(claimed);
    const doers = Array.from({ length: 4 }, doer);
    await Promise.all(doers.map(({ deps }) => advancePipeline(deps, claimed)));
    await advancePipeline(doer().deps, claimed);
    assert.equal((await toldTo(second)).length, 1);
    assert.equal(doers.flatMap(({ woken }) => woken).length, 1);
    const numbers = await driving.numbersOf(pipelineId);
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => index + 1),
    );
  });

  it('never begins once a cancel came in before the decision', async () => {
    const { pipelineId, first, second } = await startChain();
    await end(first, 'SUCCEEDED');
    const claimed = await claim(pipelineId);
    assert.ok(claimed);
    await appendNews(api, org, [{ pipelineId, type: 'cancelRequested', data: { by: 'ada' } }]);
    await advancePipeline(doer().deps, claimed);
    assert.deepEqual(await toldTo(second), [
      { type: 'cancelRequested', data: { by: 'ada' }, message: 'ada cancelled' },
    ]);
    await end(second, 'FAILED');
    const last = await claim(pipelineId);
    assert.ok(last);
    await advancePipeline(doer().deps, last);
    const { status } = await worker.prisma.pipeline.findUniqueOrThrow({ where: { id: pipelineId } });
    assert.equal(status, 'FAILED');
  });

  it('is told that it never begins where the end was another', async () => {
    const { pipelineId, first, second } = await startChain();
    await end(first, 'FAILED');
    const claimed = await claim(pipelineId);
    assert.ok(claimed);
    await advancePipeline(doer().deps, claimed);
    assert.deepEqual(await toldTo(second), [
      {
        type: 'dependencyFailed',
        data: { target: 'target-0', status: 'FAILED' },
        message: "Target target-1 is not deployed: it depends on target 'target-0', which ended FAILED",
      },
    ]);
  });
});

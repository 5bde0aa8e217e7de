import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { findIdempotent, insertPipeline } from '@cdaas/control-plane/start-pipeline.ts';
import { type Driving, openDriving, pipelineStart } from '../support/pipelines.ts';

let driving: Driving;
let api: Driving['api'];
let worker: Driving['worker'];
let org: Driving['org'];
let rival: Driving['rival'];
let numbersOf: Driving['numbersOf'];

before(async () => {
  driving = await openDriving('start_pipeline');
  ({ api, worker, org, rival, numbersOf } = driving);
});

after(() => driving.close());

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

  it('makes due by the clock of the database, however wrong that of the caller is', async () => {
    const start = pipelineStart(api, org, 1);
    const ahead = new Date(Date.now() + 60_000);
    start.pipeline.startedAt = ahead;
    for (const event of start.events) event.at = ahead;
    await insertPipeline(api, org, start);
    const [due] = await worker.prisma.$queryRaw<{ pipeline: boolean; deployment: boolean }[]>`
      select p.wake_at <= now() as pipeline, d.wake_at <= now() as deployment
      from pipeline p join deployment d on d.pipeline_id = p.id where p.id = ${start.pipeline.id}::uuid`;
    assert.deepEqual(due, { pipeline: true, deployment: true });
  });

  it('leaves alone what is not due', async () => {
    const start = pipelineStart(api, org, 1);
    start.pipeline.due = false;
    for (const deployment of start.deployments) deployment.due = false;
    await insertPipeline(api, org, start);
    const stored = await worker.prisma.pipeline.findUniqueOrThrow({
      where: { id: start.pipeline.id },
      select: { wakeAt: true, deployments: { select: { wakeAt: true } } },
    });
    assert.deepEqual(stored, { wakeAt: null, deployments: [{ wakeAt: null }] });
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

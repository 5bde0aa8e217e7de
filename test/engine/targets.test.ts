import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { approveStep, getDeployment, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { cancelPipeline, getPipeline } from '@cdaas/control-plane/pipelines.ts';
import { approval, pause, weight } from '../support/deployment-files.ts';
import { checkLaws } from '../support/laws.ts';
import { type Run, type Seen, tell } from '../support/run.ts';
import { holdWrite, pins } from '../support/test-cluster.ts';
import { bringVersion1, openTrain, trainOf } from '../support/train.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/*
 * Several targets in one start, on real clusters: what begins when, what a failure, a roll back and a cancel reach, who
 * holds which objects, and that a cluster which is away holds up only its own targets.
 */

let world: World;
before(async () => {
  world = await openWorld('targets');
});
after(() => world.close());

const awaitingApproval = (run: Run) => run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
const approve = ({ tenant }: Scene, run: Run, step = 1) =>
  approveStep(tenant.ctx, { id: run.deploymentId, ref: `canary-step-${step}` });
const refusedAs = (code: string) => (error: unknown) => (error as { code?: string }).code === code;
const statuses = async (runs: Record<string, Run>): Promise<Record<string, string>> =>
  Object.fromEntries(
    await Promise.all(Object.entries(runs).map(async ([name, run]) => [name, (await run.end(60_000)).status] as const)),
  );
const endedOf = (seen: Seen) =>
  seen.events.flatMap(({ type, deploymentId, data }) =>
    type === 'started' ? [`${deploymentId} begins`] : type === 'targetEnded' ? [`${data.deployment} ended`] : [],
  );

const claimsOf = (run: Run) => world.db.prisma.objectClaim.count({ where: { deploymentId: run.deploymentId } });

describe('Several targets in one start', { concurrency: 6 }, () => {
  it('begin in the order in which they depend on each other, and hold nothing before', async () => {
    const train = await openTrain(world, 'staging', 'prod');
    const { staging, prod } = train.scenes;
    const recorders = await Promise.all([staging.record(), prod.record()]);
    const untouched = await prod.client.versions(prod.namespace);
    const runs = await train.start(
      {
        prod: { dependsOn: ['staging'], steps: [weight(50)] },
        staging: { steps: [approval(), weight(20)] },
      },
      { version: '2' },
    );
    const { ctx } = staging.tenant;
    await awaitingApproval(runs.staging);

    const waiting = await runs.prod.now();
    assert.equal(waiting.status, 'WAITING');
    assert.equal(waiting.state.status, 'WAITING');
    assert.equal(waiting.state.wakeAt, null);
    assert.equal(await claimsOf(runs.prod), 0);
    assert.ok((await claimsOf(runs.staging)) > 0);
    assert.deepEqual((await getDeployment(ctx, { id: runs.prod.deploymentId })).waitsFor, ['staging']);
    const shown = await getPipeline(ctx, { id: runs.prod.pipelineId });
    assert.equal(shown.status, 'AWAITING_APPROVAL');
    assert.deepEqual(
      shown.deployments.map(({ target, dependsOn, state }) => [target, dependsOn, state.status]),
      [
        ['prod', ['staging'], 'WAITING'],
        ['staging', [], 'AWAITING_APPROVAL'],
      ],
    );
    assert.deepEqual(await prod.client.versions(prod.namespace), untouched);

    await approve(staging, runs.staging);
    assert.deepEqual(await statuses(runs), { prod: 'SUCCEEDED', staging: 'SUCCEEDED' });
    const seen = await runs.prod.end();
    assert.equal(seen.pipelineStatus, 'SUCCEEDED');
    const ids = { staging: runs.staging.deploymentId, prod: runs.prod.deploymentId };
    assert.deepEqual(endedOf(seen), [
      `${ids.staging} begins`,
      `${ids.staging} ended`,
      `${ids.prod} begins`,
      `${ids.prod} ended`,
    ]);
    const begun = seen.events.find(({ type, deploymentId }) => type === 'started' && deploymentId === ids.prod);
    assert.equal(begun?.message, 'Target prod: deployment begins; staging SUCCEEDED');
    for (const recorder of recorders) {
      assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'succeeded' }), []);
    }
    assert.equal(await claimsOf(runs.prod), 0);
  });

  it('run beside each other where neither depends on the other, and all of them come before what depends on both', async () => {
    const train = await openTrain(world, 'us', 'eu', 'prod');
    const { us, eu } = train.scenes;
    const runs = await train.start(
      {
        us: { steps: [approval()] },
        eu: { steps: [approval()] },
        prod: { dependsOn: ['us', 'eu'] },
      },
      { version: '2' },
    );
    await Promise.all([awaitingApproval(runs.us), awaitingApproval(runs.eu)]);
    await approve(us, runs.us);
    await runs.us.until('its end', ({ status }) => status === 'SUCCEEDED');
    await runs.us.until('the end of us in the pipeline', ({ events }) =>
      events.some(({ type }) => type === 'targetEnded'),
    );
    assert.equal((await runs.prod.now()).status, 'WAITING');
    await approve(eu, runs.eu);
    assert.deepEqual(await statuses(runs), { us: 'SUCCEEDED', eu: 'SUCCEEDED', prod: 'SUCCEEDED' });
  });

  it('never begin after one that failed, however far before; what is beside it goes on', async () => {
    const train = await openTrain(world, 'staging', 'prod', 'last', 'beside');
    const { staging, prod, last, beside } = train.scenes;
    await world.shorten(staging.namespace, { readyTimeoutSeconds: 1 });
    const before = await Promise.all([prod, last].map(({ client, namespace }) => client.versions(namespace)));
    const runs = await train.start(
      {
        staging: {},
        prod: { dependsOn: ['staging'] },
        last: { dependsOn: ['prod'] },
        beside: { steps: [approval()] },
      },
      // Only where it has a second to become ready does it show.
      { version: '2-never-ready' },
    );
    const failed = await runs.prod.until('its end', ({ status }) => status === 'CANCELLED');
    assert.equal(failed.state.error, "it depends on target 'staging', which ended FAILED");
    assert.equal(failed.state.startedAt, null);
    const far = await runs.last.until('its end', ({ status }) => status === 'CANCELLED');
    assert.equal(far.state.error, "it depends on target 'staging', which ended FAILED");
    const told = far.events.filter(({ type }) => type === 'dependencyFailed').map(({ message }) => message);
    assert.deepEqual(told.sort(), [
      "Target last is not deployed: it depends on target 'staging', which ended FAILED",
      "Target prod is not deployed: it depends on target 'staging', which ended FAILED",
    ]);
    assert.equal((await awaitingApproval(runs.beside)).pipelineStatus, 'RUNNING');
    await rollBackDeployment(beside.tenant.ctx, { id: runs.beside.deploymentId });
    assert.deepEqual(await statuses(runs), {
      staging: 'FAILED',
      prod: 'CANCELLED',
      last: 'CANCELLED',
      beside: 'CANCELLED',
    });
    assert.equal((await runs.staging.end()).pipelineStatus, 'FAILED');
    const after = await Promise.all([prod, last].map(({ client, namespace }) => client.versions(namespace)));
    assert.deepEqual(after, before);
  });

  it('never begin after one that a person turned back; its pipeline is CANCELLED, the rest finishes', async () => {
    const train = await openTrain(world, 'staging', 'prod', 'beside');
    const { staging, prod, beside } = train.scenes;
    const recorder = await staging.record();
    const runs = await train.start(
      {
        staging: { steps: [weight(50), pause(600)] },
        prod: { dependsOn: ['staging'] },
        beside: {},
      },
      { version: '2' },
    );
    await runs.staging.until('the pause', ({ status }) => status === 'PAUSED');
    await rollBackDeployment(staging.tenant.ctx, { id: runs.staging.deploymentId });
    assert.deepEqual(await statuses(runs), { staging: 'CANCELLED', prod: 'CANCELLED', beside: 'SUCCEEDED' });
    const seen = await runs.prod.end();
    assert.equal(seen.state.error, "it depends on target 'staging', which ended CANCELLED");
    assert.equal(seen.pipelineStatus, 'CANCELLED');
    assert.deepEqual(checkLaws(await recorder.stop(), { replicas: 2, end: 'rolledBack' }), []);
    assert.deepEqual(prod.send(10), { answers: { '1': 10 }, failed: 0 });
    assert.deepEqual(beside.send(10), { answers: { '2': 10 }, failed: 0 });
  });

  it('may be turned back while they wait, without a change and without harm to what they wait for', async () => {
    const train = await openTrain(world, 'staging', 'prod');
    const { staging, prod } = train.scenes;
    const before = await prod.client.versions(prod.namespace);
    const runs = await train.start(
      { staging: { steps: [approval()] }, prod: { dependsOn: ['staging'] } },
      { version: '2' },
    );
    await awaitingApproval(runs.staging);
    await rollBackDeployment(prod.tenant.ctx, { id: runs.prod.deploymentId });
    await runs.prod.until('its end', ({ status }) => status === 'CANCELLED');
    await approve(staging, runs.staging);
    assert.deepEqual(await statuses(runs), { staging: 'SUCCEEDED', prod: 'CANCELLED' });
    const seen = await runs.prod.end();
    assert.equal(seen.pipelineStatus, 'CANCELLED');
    assert.equal(seen.state.error, 'rolled back by ci');
    assert.deepEqual(await prod.client.versions(prod.namespace), before);
  });

  it('are all reached by a cancel: those before F2 turn back, those after it finish, those that wait end at once', async () => {
    const train = await openTrain(world, 'finishing', 'shifting', 'waiting');
    const { finishing, shifting } = train.scenes;
    const recorders = { finishing: await finishing.record(), shifting: await shifting.record() };
    const hold = holdWrite(finishing, pins('web', 2));
    const runs = await train.start(
      {
        finishing: {},
        shifting: { steps: [weight(40), pause(600)] },
        waiting: { dependsOn: ['shifting'] },
      },
      { version: '2' },
    );
    await hold.reached;
    await runs.shifting.until('the pause', ({ status }) => status === 'PAUSED');
    const { ctx } = finishing.tenant;
    await cancelPipeline(ctx, { id: runs.waiting.pipelineId });
    await runs.waiting.until('its end', ({ status }) => status === 'CANCELLED');
    await runs.shifting.until('its end', ({ status }) => status === 'CANCELLED');
    assert.equal((await runs.finishing.now()).status, 'FINISHING');
    hold.release();
    assert.deepEqual(await statuses(runs), { finishing: 'SUCCEEDED', shifting: 'CANCELLED', waiting: 'CANCELLED' });
    const seen = await runs.waiting.end();
    assert.equal(seen.pipelineStatus, 'CANCELLED');
    assert.equal(seen.state.error, 'cancelled by ci');
    assert.deepEqual(checkLaws(await recorders.finishing.stop(), { replicas: 2, end: 'succeeded' }), []);
    assert.deepEqual(checkLaws(await recorders.shifting.stop(), { replicas: 2, end: 'rolledBack' }), []);
  });

  it('cannot be cancelled once every one that has not ended is finishing, and can while one still waits', async () => {
    const train = await openTrain(world, 'first', 'second', 'third');
    const { first, second } = train.scenes;
    const holds = [holdWrite(first, pins('web', 2)), holdWrite(second, pins('web', 2))];
    const runs = await train.start({ first: {}, second: {} }, { version: '2' });
    await Promise.all(holds.map(({ reached }) => reached));
    const { ctx } = first.tenant;
    await assert.rejects(cancelPipeline(ctx, { id: runs.first.pipelineId }), refusedAs('deployment.finishing'));
    for (const hold of holds) hold.release();
    assert.deepEqual(await statuses(runs), { first: 'SUCCEEDED', second: 'SUCCEEDED' });

    const again = holdWrite(first, pins('web', 2));
    const more = await train.start({ first: {}, third: { dependsOn: ['first'] } }, { version: '3' });
    await again.reached;
    await cancelPipeline(ctx, { id: more.first.pipelineId });
    again.release();
    assert.deepEqual(await statuses(more), { first: 'SUCCEEDED', third: 'CANCELLED' });
    assert.equal((await more.first.end()).pipelineStatus, 'CANCELLED');
  });

  it('keep the application in progress while one waits: a second start is refused with the link', async () => {
    const train = await openTrain(world, 'staging', 'prod');
    const { staging } = train.scenes;
    const places = { staging: { steps: [approval()] }, prod: { dependsOn: ['staging'] } };
    const runs = await train.start(places, { version: '2' });
    await awaitingApproval(runs.staging);
    await assert.rejects(train.start(places, { version: '3' }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'deployment.conflict');
      assert.match(error.message, new RegExp(`http://127.0.0.1:8080/.*${runs.prod.pipelineId}`));
      return true;
    });
    await cancelPipeline(staging.tenant.ctx, { id: runs.prod.pipelineId });
    assert.deepEqual(await statuses(runs), { staging: 'CANCELLED', prod: 'CANCELLED' });
  });
});

describe('The objects of several targets', { concurrency: 4 }, () => {
  it('are taken when a target begins: one that another deployment drives then fails it before any change', async () => {
    const [staging, prod, last] = await Promise.all([world.scene(), world.scene(), world.scene()]);
    const train = trainOf({ staging, prod, last });
    await bringVersion1(train, 'staging', 'last');
    const runs = await train.start(
      { staging: { steps: [approval()] }, prod: { dependsOn: ['staging'] }, last: { dependsOn: ['prod'] } },
      { version: '2' },
    );
    await awaitingApproval(runs.staging);
    const hold = holdWrite(prod, () => true);
    const other = await prod.deploy({ version: '1' });
    await hold.reached;
    const before = await prod.client.versions(prod.namespace);
    await approve(staging, runs.staging);
    assert.deepEqual(await statuses(runs), { staging: 'SUCCEEDED', prod: 'FAILED', last: 'CANCELLED' });
    const seen = await runs.prod.end();
    assert.match(seen.state.error ?? '', new RegExp(`is in use by deployment ${other.deploymentId}`));
    assert.equal(seen.state.startedAt, null);
    assert.equal(seen.pipelineStatus, 'FAILED');
    assert.equal(seen.events.filter(({ type }) => type === 'claimRefused').length, 1);
    assert.deepEqual(await prod.client.versions(prod.namespace), before);
    hold.release();
    assert.equal((await other.end()).status, 'SUCCEEDED');
  });

  it('of one cluster that two tenants registered meet, and nothing is told of the other', async () => {
    const cluster = await world.cluster();
    const [mine, theirs] = await Promise.all(
      ['mine', 'theirs'].map(async (name) => world.scene({ cluster, tenant: await world.tenant(`both-${name}`) })),
    );
    assert.ok(mine && theirs);
    await mine.first();
    const { tenant } = theirs;
    const train = trainOf({ staging: theirs, prod: { ...mine, tenant, account: theirs.account } });
    const run = await mine.deploy({ version: '2', steps: [approval()] });
    await awaitingApproval(run);
    await assert.rejects(train.start({ prod: {} }, { version: '3' }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'object.claimed');
      assert.match(error.message, /is being deployed by another owner of the cluster/);
      assert.ok(!error.message.includes(run.deploymentId));
      return true;
    });
    await approve(mine, run);
    assert.equal((await run.end()).status, 'SUCCEEDED');

    // The same between the start and the moment at which the target begins.
    const hold = holdWrite(theirs, () => true);
    const runs = await train.start({ staging: {}, prod: { dependsOn: ['staging'] } }, { version: '3' });
    await hold.reached;
    const next = await mine.deploy({ version: '4', steps: [approval()] });
    await awaitingApproval(next);
    hold.release();
    assert.deepEqual(await statuses(runs), { staging: 'SUCCEEDED', prod: 'FAILED' });
    const seen = await runs.prod.end();
    assert.match(seen.state.error ?? '', /is in use by another owner; wait until that is over/);
    for (const { message, data } of seen.events) {
      assert.ok(!JSON.stringify([message, data]).includes(next.deploymentId));
    }
    await approve(mine, next);
    assert.equal((await next.end()).status, 'SUCCEEDED');
  });

  it('are not the same for two targets, even under two accounts of one cluster', async () => {
    const scene = await world.scene();
    const account = await scene.tenant.register(scene.cluster);
    const train = trainOf({ one: scene, two: { ...scene, account } });
    await assert.rejects(train.start({ one: {}, two: { dependsOn: ['one'] } }, { version: '1' }), (error: unknown) => {
      const { code, violations } = error as { code: string; violations: { path: string; message: string }[] };
      assert.equal(code, 'traffic.conflict');
      assert.deepEqual(
        violations.map(({ path }) => path),
        ['/targets/two'],
      );
      assert.match(violations[0]?.message ?? '', /^targets 'one' and 'two' would both drive Deployment ns-\w+\/web/);
      return true;
    });
  });
});

describe('The example with two targets', () => {
  it('runs on the sandbox as it stands, and with another tag as two canaries, one after the other', async () => {
    const yaml = await readFile(new URL('../../examples/staging-to-prod.yaml', import.meta.url), 'utf8');
    const tenant = await world.tenant('example');
    const cluster = await world.cluster();
    await tenant.register(cluster, 'sandbox');
    for (const version of ['1.0.0', '1.1.0']) {
      const runs = await tenant.startAll({ yaml: yaml.replace('catalog:1.0.0', `catalog:${version}`) });
      assert.deepEqual(await statuses(Object.fromEntries(runs)), { staging: 'SUCCEEDED', prod: 'SUCCEEDED' });
      for (const namespace of ['catalog-staging', 'catalog-prod']) {
        const { answers } = cluster.sandbox.send({ namespace, service: 'catalog', count: 10 });
        assert.deepEqual(answers, { [version]: 10 });
      }
    }
  });
});

describe('Several clusters', () => {
  it('of which one is away hold up only its own targets and what depends on them', async () => {
    const away = await world.cluster();
    const [near, nearLater, far, farLater] = await Promise.all([
      world.scene(),
      world.scene(),
      world.scene({ cluster: away }),
      world.scene(),
    ]);
    const train = trainOf({ near, nearLater, far, farLater });
    await bringVersion1(train, 'near', 'nearLater', 'far', 'farLater');
    const outage = await away.outage();
    const runs = await train.start(
      {
        far: { steps: [weight(50)] },
        farLater: { dependsOn: ['far'] },
        near: { steps: [weight(50)] },
        nearLater: { dependsOn: ['near'], steps: [weight(50)] },
      },
      { version: '2' },
    );
    await runs.nearLater.until('its end', ({ status }) => status === 'SUCCEEDED');
    const held = await runs.far.until('that it is held', ({ state }) => state.heldSince !== null);
    assert.equal(held.status, 'RUNNING');
    assert.equal(held.pipelineStatus, 'RUNNING');
    assert.equal((await runs.farLater.now()).status, 'WAITING');

    await outage.over();
    assert.deepEqual(await statuses(runs), {
      far: 'SUCCEEDED',
      farLater: 'SUCCEEDED',
      near: 'SUCCEEDED',
      nearLater: 'SUCCEEDED',
    });
    const seen = await runs.far.end();
    assert.equal(seen.pipelineStatus, 'SUCCEEDED', tell(seen));
  });
});

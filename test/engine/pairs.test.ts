import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { getDeployment, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { stepRefs } from '@cdaas/pipeline/plan.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { checkLaws } from '../support/laws.ts';
import { ofPair } from '../support/pairs.ts';
import { asksForWeight, holdWrite } from '../support/test-cluster.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/* Several Deployments and several root Services in one target: forward in lock step, and back together. */

let world: World;
before(async () => {
  world = await openWorld('pairs');
});
after(() => world.close());

const both = ['api', 'web'];
const also = ['api'];

function answersOf({ cluster, namespace }: Scene, name: string) {
  return cluster.sandbox.send({ namespace, service: name, count: 20 });
}

describe('A target of two Deployments', { concurrency: 4 }, () => {
  it('turns both back at once where one loses its new pods under traffic', async () => {
    const scene = await world.scene();
    await scene.first({ also });
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', also, steps: [weight(60), approval()] });
    const held = await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const { client, namespace } = scene;
    for (const { metadata } of (await client.list('Pod', namespace)).objects) {
      if (!metadata.name.startsWith('web-') || metadata.labels?.[hashKey] !== held.state.hashes[1]) continue;
      const conditions = [{ type: 'Ready', status: 'False' }];
      const path = `/api/v1/namespaces/${namespace}/pods/${metadata.name}/status`;
      await client.send('PATCH', path, { status: { conditions } }, 'application/merge-patch+json');
    }
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /has traffic but no ready pod: no ready pods behind Service web-canary/);
    const recording = await recorder.stop();
    for (const name of both) {
      const expected = { root: name, replicas: 2, end: 'rolledBack', disturbed: name === 'web' } as const;
      assert.deepEqual(checkLaws(ofPair(recording, name), expected), [], name);
      assert.deepEqual(answersOf(scene, name), { answers: { '1': 20 }, failed: 0 });
    }
  });

  it('names each of them in its story, its steps, and what it waits for', async () => {
    const scene = await world.scene();
    await scene.first({ also });
    const hold = holdWrite(scene, (request) => asksForWeight(60)(request) && request.path.endsWith('/web'));
    const run = await scene.deploy({ version: '2', also, steps: [weight(60), approval()] });
    await hold.reached;
    const between = await getDeployment(scene.tenant.ctx, { id: run.deploymentId });
    assert.deepEqual(
      between.state.routes.map((route) => route.weights?.canary),
      [60, 0],
    );
    assert.deepEqual(stepRefs(between.state.outline, 0), ['canary-step-1-api', 'canary-step-1-web']);
    hold.release();
    const seen = await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    assert.equal(waitingFor(seen.state), 'approval of canary-step-2');
    const told = seen.events.flatMap(({ message }) => message ?? []);
    for (const name of both) {
      assert.ok(told.includes(`TrafficSplit ${name} set: 60 % of traffic to the new version`), told.join('\n'));
      assert.ok(told.includes(`The mesh took 60 % of traffic of Service ${name} to the new version`), told.join('\n'));
    }
    const claims = await world.db.prisma.objectClaim.findMany({ where: { deploymentId: run.deploymentId } });
    assert.deepEqual(claims.map(({ kind, name }) => `${kind} ${name}`).sort(), [
      ...['Deployment api', 'Deployment web', 'Service api', 'Service api-canary', 'Service web', 'Service web-canary'],
      ...['TrafficSplit api', 'TrafficSplit web'],
    ]);
    const other = scene.deploy({ version: '3', application: `other-${scene.namespace}`, smi: {} });
    await assert.rejects(other, { code: 'object.claimed' });
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.end();
  });
});

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { withAdmin } from '../support/postgres.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('claims');
});
after(() => world.close());

describe('Two deployments that want the same objects', { concurrency: 4 }, () => {
  it('of two tenants that registered one cluster are told apart at the start, without a word of the other', async () => {
    const scene = await world.scene();
    await scene.first();
    const stranger = await world.scene({ tenant: await world.tenant('stranger'), cluster: scene.cluster });
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const start = stranger.deploy({ namespace: scene.namespace, application: 'theirs', version: '9' });
    await assert.rejects(start, (error: Error & { code?: string }) => {
      assert.equal(error.code, 'object.claimed');
      assert.match(error.message, /another owner/);
      assert.ok(!JSON.stringify(error, Object.getOwnPropertyNames(error)).includes(run.deploymentId));
      return true;
    });
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await run.end();
  });

  it('of one cluster meet although a worker knew that by another id until just now', async () => {
    const tenant = await world.tenant('adopting');
    const scene = await world.scene({ tenant, cluster: await world.cluster() });
    await scene.first();
    // As POST /clusters/{name}/verify does it for one that was known by its address (clusters/change.ts).
    const { tenantId } = tenant.ctx.scope;
    await withAdmin(world.url, (admin) =>
      admin.query(
        `update cluster set cluster_uid = 'adopted', access_version = access_version + 1 where tenant_id = $1`,
        [tenantId],
      ),
    );
    const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
    await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
    const { rows } = await withAdmin(world.url, (admin) =>
      admin.query('select distinct cluster_uid from object_claim where deployment_id = $1', [run.deploymentId]),
    );
    assert.deepEqual(rows, [{ cluster_uid: 'adopted' }]);
    await rollBackDeployment(tenant.ctx, { id: run.deploymentId });
    await run.end();
  });

  it('and are started at once: one goes on, the other fails before any change', async () => {
    const idle = await openWorld('claims-idle', { workers: 0 });
    try {
      const scene = await idle.scene();
      const other = await idle.scene({ tenant: await idle.tenant('other'), cluster: scene.cluster });
      const recorder = await scene.record();
      const runs = [
        await scene.deploy({ version: '1', application: 'ours' }),
        await other.deploy({ version: '9', application: 'theirs', namespace: scene.namespace }),
      ];
      await idle.startWorker();
      const ends = await Promise.all(runs.map((run) => run.end()));
      assert.deepEqual(ends.map(({ status }) => status).sort(), ['FAILED', 'SUCCEEDED']);
      const failed = ends.find(({ status }) => status === 'FAILED');
      assert.match(failed?.state.error ?? '', /in use by another owner/);
      assert.equal(failed?.state.calls, 0);
      const { writes } = await recorder.stop();
      const created = writes.filter(({ verb, path }) => verb === 'create' && path.endsWith('/replicasets'));
      assert.equal(created.length, 1);
    } finally {
      await idle.close();
    }
  });
});

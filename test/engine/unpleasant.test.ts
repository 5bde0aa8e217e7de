import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { approveStep } from '@cdaas/control-plane/deployments.ts';
import { newReplicaSetName } from '@cdaas/pipeline/deployment-state.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { steps, untilHeld, weights } from '../conformance/unpleasant.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { type Run, tell } from '../support/run.ts';
import type { Cluster } from '../support/test-cluster.ts';
import { startUnpleasantCluster, type UnpleasantCluster } from '../support/unpleasant-cluster.ts';
import { openWorld, type Scene, type Tenant, type World } from '../support/world.ts';
import type { Expected } from './unpleasant-case.ts';
import { cases, timeLimitMs } from './unpleasant-cases.ts';

let world: World;
let tenant: Tenant;
let real: Cluster;
const opened: UnpleasantCluster[] = [];
before(async () => {
  const clusterPatience = { pollEveryMs: 1_000, unseenAfterMs: 2_500 };
  world = await openWorld('unpleasant', {
    towardsClusters: { clusterLimits: { timeoutMs: timeLimitMs, answerBytes: 1024 * 1024 }, clusterPatience },
  });
  tenant = await world.tenant('unpleasant');
  real = await world.cluster();
});
after(async () => {
  await world.close();
  await Promise.all(opened.map((cluster) => cluster.close()));
});

let count = 0;
/** A namespace where version 1 runs, in a cluster that can be made unpleasant. */
async function openScene(): Promise<{ scene: Scene; cluster: UnpleasantCluster }> {
  const cluster = await startUnpleasantCluster(real.sandbox);
  opened.push(cluster);
  const account = `unpleasant-${++count}`;
  await registerCluster(tenant.ctx, { name: account, ...cluster.access });
  const scene = await world.scene({ tenant, cluster: real, account });
  await scene.first();
  return { scene, cluster };
}

const approve = ({ deploymentId }: Run) => approveStep(tenant.ctx, { id: deploymentId, ref: 'canary-step-2' });
const untilApproval = (run: Run) => run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);

describe('A cluster that', { concurrency: 8 }, () => {
  for (const { title, trouble, atStart, raised } of cases) {
    const begin = (cluster: UnpleasantCluster) => cluster.begin(trouble);

    // Where it ends as it does later, once is enough: a run takes seconds.
    if (atStart !== null && (raised === null || kindOf(atStart) !== kindOf(raised)))
      it(`${title} when a deployment starts: it ${wordsOf(atStart)}`, async () => {
        const { scene, cluster } = await openScene();
        const recorder = await scene.record();
        const over = begin(cluster);
        const run = await scene.deploy({ version: '2', steps });
        // Some of it shows only after the approval.
        const approved = untilApproval(run).then(() => approve(run));
        approved.catch(() => {});
        await check(atStart, { scene, cluster, run, over, recorder });
      });

    if (raised === null) continue;
    it(`${title} while a deployment is at 10 %: it ${wordsOf(raised)}`, async () => {
      const { scene, cluster } = await openScene();
      const recorder = await scene.record();
      const run = await scene.deploy({ version: '2', steps });
      await untilApproval(run);
      const over = begin(cluster);
      await approve(run);
      await check(raised, { scene, cluster, run, over, recorder });
    });
  }
});

describe('A cluster that is registered and', { concurrency: 20 }, () => {
  for (const { title, trouble, registered } of cases) {
    it(`${title} is ${registered === 'accepted' ? 'accepted' : `refused as ${registered.code}`}`, async () => {
      const cluster = await startUnpleasantCluster(real.sandbox);
      opened.push(cluster);
      cluster.begin(trouble);
      const name = `registered-${++count}`;
      const began = performance.now();
      const registering = registerCluster(tenant.ctx, { name, ...cluster.access });
      if (registered === 'accepted') return void (await registering);
      await assert.rejects(registering, ({ code, message }: { code: string; message: string }) => {
        assert.equal(code, registered.code, message);
        assert.match(message, registered.words);
        return true;
      });
      assert.ok(performance.now() - began < 30_000);
    });
  }
});

describe('A run that waits for a person', { concurrency: 4 }, () => {
  it('says when its cluster cannot be seen, since when and why, and when it is seen again', async () => {
    const { scene, cluster } = await openScene();
    const recorder = await scene.record();
    const run = await scene.deploy({ version: '2', steps });
    await untilApproval(run);
    const over = cluster.begin({ door: 'closed' });
    const words = /approval of canary-step-2; attention: the cluster cannot be seen since 20\d\d-\S+Z: .*ECONNREFUSED/;
    const { state } = await run.until('the words', (seen) => words.test(waitingFor(seen.state) ?? ''), 60_000);
    assert.equal(state.rollBack, null);
    over();
    const seen = await run.until('the end of it', (now) => !/attention/.test(waitingFor(now.state) ?? ''), 60_000);
    assert.ok(
      seen.events.some(({ message }) => message === 'Well again: the cluster is seen again'),
      tell(seen),
    );
    await approve(run);
    assert.equal((await run.end()).status, 'SUCCEEDED');
    assert.deepEqual(weightsWritten(await recorder.stop()), weights);
  });

  it('hears of pods that die while the cluster lets nobody watch, and turns back', async () => {
    const { scene, cluster } = await openScene();
    const run = await scene.deploy({ version: '2', steps });
    const { state } = await untilApproval(run);
    cluster.begin({ request: ({ verb }, reply) => (verb === 'watch' ? reply.refuse(403, 'Forbidden', 'no') : 'pass') });
    const replicaSet = newReplicaSetName(state, 0);
    await scene.client.delete('ReplicaSet', scene.namespace, replicaSet);
    const seen = await run.end(60_000);
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /the new version has traffic but no ready pod|was deleted by somebody/);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });
});

type Checked = {
  scene: Scene;
  cluster: UnpleasantCluster;
  run: Run;
  over: () => void;
  recorder: Awaited<ReturnType<Scene['record']>>;
};

async function check(expected: Expected, { scene, cluster, run, over, recorder }: Checked): Promise<void> {
  if (typeof expected === 'object' && 'holds' in expected) {
    await untilHeld(run, expected.holds);
    over();
  }
  const seen = await run.end(90_000);
  over();
  assert.ok(cluster.met() > 0, 'it was unpleasant');
  const recording = await recorder.stop();
  if (typeof expected === 'object' && 'fails' in expected) {
    assert.equal(seen.status, 'FAILED', tell(seen));
    assert.match(seen.state.error ?? '', expected.fails, tell(seen));
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack', interrupted: true }), []);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
    return;
  }
  assert.equal(seen.status, 'SUCCEEDED', tell(seen));
  assert.deepEqual(weightsWritten(recording), weights);
  assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', interrupted: true }), []);
  assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
}

function kindOf(expected: Expected): string {
  return expected === 'goesOn' ? expected : Object.keys(expected).join();
}

function wordsOf(expected: Expected): string {
  if (expected === 'goesOn') return 'goes on';
  return 'holds' in expected ? 'holds, and goes on when that is over' : 'fails and is rolled back';
}

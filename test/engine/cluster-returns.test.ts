import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { type Run, tell } from '../support/run.ts';
import { startUnpleasantCluster, type UnpleasantCluster } from '../support/unpleasant-cluster.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/* A roll back that was asked for while a cluster was away does not wait out a delay that grew meanwhile. */

type Place = { world: World; cluster: UnpleasantCluster; scene: Scene };
const hour = 3_600_000;

const ways = {
  'the watches see it again': {
    clusterLimits: { breakerThreshold: 1_000_000 },
    clusterPatience: { pollEveryMs: 500, unseenAfterMs: 2_000 },
  },
  'anybody of the same worker got an answer': {
    clusterLimits: { breakerThreshold: 1 },
    clusterPatience: { pollEveryMs: 500, unseenAfterMs: hour },
  },
};

const places: Place[] = [];
async function openPlace(name: string, towardsClusters: (typeof ways)[keyof typeof ways]): Promise<Place> {
  const world = await openWorld(name, { towardsClusters });
  const tenant = await world.tenant(name);
  const real = await world.cluster();
  const cluster = await startUnpleasantCluster(real.sandbox);
  await registerCluster(tenant.ctx, { name: 'far', ...cluster.access });
  const scene = await world.scene({ tenant, cluster: real, account: 'far' });
  const place = { world, cluster, scene };
  places.push(place);
  await scene.first();
  return place;
}

const opened: { words: string; place: Place }[] = [];
before(async () => {
  for (const [index, [words, options]] of Object.entries(ways).entries()) {
    opened.push({ words, place: await openPlace(`returns_${index}`, options) });
  }
});
after(async () => {
  for (const { world, cluster } of places) {
    await world.close();
    await cluster.close();
  }
});

const heldFor = (run: Run, tries: number) =>
  run.until(`${tries} tries`, ({ state }) => state.retry?.count === tries, 60_000);

describe('A cluster that was away is back once', { concurrency: 2 }, () => {
  for (const [index, words] of Object.keys(ways).entries())
    it(`${words}: the roll back goes on at once`, async () => {
      const place = opened[index]?.place;
      assert.ok(place);
      const { scene, cluster } = place;
      const run = await scene.deploy({ version: '2', steps: [weight(10), approval()] });
      await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
      const over = cluster.begin({ door: 'closed' });
      await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
      const held = await heldFor(run, 5);
      over();
      const next = held.state.retry?.until ?? '';
      const seen = await run.end();
      assert.equal(seen.status, 'CANCELLED', tell(seen));
      const back = seen.events.find(({ message }) => /answers again|seen again/.test(message ?? ''));
      const first = seen.events.find(
        ({ number, type }) => type === 'written' && number > (held.events.at(-1)?.number ?? 0),
      );
      assert.ok(back && first, tell(seen));
      assert.ok(
        first.at.toISOString() < next,
        `tried at ${first.at.toISOString()}, without that at ${next}\n${tell(seen)}`,
      );
      assert.ok(first.at.getTime() - back.at.getTime() < 5_000, tell(seen));
    });
});

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newReplicaSetName } from '@cdaas/pipeline/deployment-state.ts';
import { pause, weight } from '../support/deployment-files.ts';
import { withAdmin } from '../support/postgres.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('reports');
  // Postgres refuses the first report of starving pods, as it may at any moment.
  await withAdmin(world.url, (admin) =>
    admin.query(`
      create sequence refused;
      create function refuse_once() returns trigger language plpgsql security definer as $$
      begin
        if new.data ->> 'condition' = 'guard.starved.0' then
          if nextval('public.refused') = 1 then
            raise exception 'not now';
          end if;
        end if;
        return new;
      end $$;
      create trigger refuse_once before insert on event for each row execute function refuse_once()`),
  );
});
after(() => world.close());

describe('A report that could not be stored', () => {
  it('is told again, so that pods that die under weight still roll the deployment back', async () => {
    const scene = await world.scene();
    await scene.first();
    const run = await scene.deploy({ version: '2', steps: [weight(50), pause(600)] });
    const { state } = await run.until('the pause', ({ status }) => status === 'PAUSED');
    // Gone for good, and never heard of again: there is one report, or none.
    const replicaSet = newReplicaSetName(state, 0);
    await scene.client.patch('ReplicaSet', scene.namespace, replicaSet, { spec: { replicas: 0 } });
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /the new version has traffic but no ready pod/);
    assert.ok(seen.events.some(({ message }) => message?.startsWith('Rolling back: the new version has traffic')));
    const [row] = await withAdmin(world.url, async (admin) => {
      const { rows } = await admin.query<{ tries: string }>('select last_value as tries from refused');
      return rows;
    });
    assert.ok(Number(row?.tries) >= 2, 'the first report was refused');
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });
});

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { currentInstruction } from '@cdaas/pipeline/moves.ts';
import { readDeploymentPlan, readDeploymentState, slotFrom1 } from '@cdaas/pipeline/stored.ts';
import { breachesOf } from '@cdaas/pipeline/testing/laws.ts';
import { type Action, act, createSetup, type Setup, type World } from '@cdaas/pipeline/testing/world.ts';

/**
 * Runs in progress as earlier releases stored them, with their clusters: `deployments-<state version>/<name>.json`. Each
 * must go on from where it was and come to its end. A file is never edited; a new version of states gets a folder of its
 * own.
 */
type Stored = {
  plan: unknown;
  state: { rollBack: unknown; track: string; startedAt: string | null; outline: { drainSeconds: number } };
  cluster: World['cluster'];
  saved: Record<string, KubernetesObject>;
  version: number;
  clock: number;
};

const folder = join(import.meta.dirname, 'deployments-1');

function open(file: string): { setup: Setup; world: World; stored: Stored } {
  const stored = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Stored;
  const plan = readDeploymentPlan(stored.plan);
  const given = plan.routes[0]?.canaryServiceGiven === true;
  const setup = createSetup({ given, objects: plan.objects.length > 0, first: file === 'first.json' });
  const world: World = {
    state: readDeploymentState(stored.state),
    cluster: stored.cluster,
    version: stored.version,
    clock: stored.clock,
    shiftedAt: [0],
    late: [],
    saved: Object.fromEntries(Object.entries(stored.saved).map(([slot, object]) => [slotFrom1(slot), object])),
    news: [],
    disturbed: false,
    intruded: false,
    lateCreates: [],
  };
  const mesh = world.state.survey?.meshConfirmation ?? setup.mesh;
  return { setup: { ...setup, plan, mesh }, world, stored };
}

describe('a run that a release with states of version 1 left in progress', () => {
  for (const file of readdirSync(folder)) {
    const name = file.replace('.json', '');
    test(`at ${name} goes on to its end and keeps the laws`, () => {
      const { setup, world, stored } = open(file);
      if (stored.state.startedAt !== null) currentInstruction(world.state);
      const wanted = stored.state.rollBack === null ? 'SUCCEEDED' : 'CANCELLED';
      const order: Action[] = [
        { do: 'start' },
        { do: 'tell' },
        { do: 'settle' },
        { do: 'look' },
        { do: 'perform', how: 'ok' },
        { do: 'approve' },
        { do: 'due' },
      ];
      let now = world;
      for (let moves = 0; moves < 1000 && now.state.completedAt === null; moves += 1) {
        for (const action of order) {
          const done = act(setup, now, action);
          if (done === null) continue;
          assert.deepEqual(breachesOf(setup, now, action, done.world, done.happened), []);
          now = done.world;
          break;
        }
      }
      assert.deepEqual([now.state.status, now.state.stateVersion], [wanted, 2]);
    });
  }

  test('is carried by every part of its state, what was seen and what is in doubt included', () => {
    const { world } = open('weight-in-flight.json');
    const { state } = world;
    assert.equal(state.effect?.kind === 'write' && state.effect.slot, 'split.0');
    assert.deepEqual(Object.keys(state.objects).sort(), [
      'canary.0',
      'newReplicaSet.0',
      'oldReplicaSet.0',
      'root.0',
      'split.0',
    ]);
    assert.ok(Object.keys(state.observed).every((key) => /^(guard\.\w+|\w+\.\w+)\.0$/.test(key)));
    const setup = createSetup({});
    const lost = act(setup, world, { do: 'perform', how: 'lostNotApplied' })?.world ?? assert.fail();
    assert.equal(lost.state.doubt?.slot, 'split.0');
    assert.deepEqual(readDeploymentState(JSON.parse(JSON.stringify(lost.state))), lost.state);
  });
});

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { unseenGuard } from './conditions.ts';
import { decideDeployment } from './deployment-machine.ts';
import type { DeploymentEvent, DeploymentState } from './deployment-state.ts';
import { addSeconds } from './moves.ts';
import { driveUntil } from './testing/drive.ts';
import { createSetup, createWorld } from './testing/world.ts';

/* How long a run that a cluster keeps from its next write waits: not longer than it must. */

const setup = createSetup({ steps: [{ kind: 'setWeight', weight: 10 }], mesh: 'stored' });

/** A run whose weights are being written. */
function writing(id: string): DeploymentState {
  const { state } = driveUntil(setup, createWorld(setup), ({ state: { effect } }) => {
    return effect?.kind === 'write' && effect.change.op === 'weights' && effect.change.weights.canary === 10;
  });
  assert.equal(state.effect?.kind, 'write');
  return { ...state, id };
}

type Told = DeploymentEvent extends infer Each ? (Each extends DeploymentEvent ? Omit<Each, 'at'> : never) : never;

function tell(state: DeploymentState, at: string, event: Told): DeploymentState {
  return decideDeployment(state, { ...event, at } as DeploymentEvent).state;
}

const start = '2026-03-01T00:00:00.000Z';

/** The run after so many tries that did not reach the cluster; `at`: of the last. */
function away(id: string, tries: number): { state: DeploymentState; at: string } {
  let state = writing(id);
  let at = start;
  for (let done = 1; ; done += 1) {
    const key = state.effect?.key ?? '';
    state = tell(state, at, { type: 'unreachable', key, message: 'nobody there' });
    if (done === tries) return { state, at };
    at = state.retry?.until ?? '';
    state = tell(state, at, { type: 'due' });
  }
}

const seenAgain: Told[] = [
  { type: 'clusterAnswers' },
  { type: 'observed', condition: unseenGuard, holds: false, detail: 'the cluster is seen again' },
];

describe('a cluster that answers again', () => {
  for (const event of seenAgain)
    test(`has the next try come within a second (${event.type})`, () => {
      const { state, at } = away('one', 6);
      assert.equal(state.retry?.until, addSeconds(at, 30));
      const back = addSeconds(at, 3);
      const told = tell(state, back, event);
      const { wakeAt } = told;
      assert.ok(wakeAt !== null && wakeAt >= back && wakeAt <= addSeconds(back, 1), `${wakeAt} after ${back}`);
      assert.equal(tell(told, wakeAt, { type: 'due' }).effect?.kind, 'write');
    });

  test('but not this run yet counts its tries on, and no wait becomes longer', () => {
    const { state, at } = away('one', 6);
    const told = tell(state, addSeconds(at, 3), { type: 'clusterAnswers' });
    const tried = tell(told, told.wakeAt ?? '', { type: 'due' });
    const key = tried.effect?.key ?? '';
    const gone = tell(tried, told.wakeAt ?? '', { type: 'unreachable', key, message: 'gone again' });
    assert.equal(gone.retry?.until, addSeconds(told.wakeAt ?? '', 30));
    const late = tell(state, addSeconds(at, 29.999), { type: 'clusterAnswers' });
    assert.ok((late.retry?.until ?? '') <= (state.retry?.until ?? ''));
  });

  test('is not asked by all runs at once', () => {
    const moments = Array.from({ length: 500 }, (_, index) => {
      const { state, at } = away(`0192-run-${index}`, 6);
      return tell(state, addSeconds(at, 3), { type: 'clusterAnswers' }).wakeAt;
    });
    const groups = Map.groupBy(moments, (moment) => moment?.slice(0, -2));
    const busiest = Math.max(...[...groups.values()].map(({ length }) => length));
    assert.ok(busiest <= 50, `${busiest} within a hundredth of a second`);
  });

  test('changes nothing for a run that waits for no next try', () => {
    const state = writing('one');
    assert.deepEqual(tell(state, start, { type: 'clusterAnswers' }).effect, state.effect);
  });
});

test('a write, which may be three requests of ten seconds, is not called overdue before', () => {
  const { effect, wakeAt, since } = writing('one');
  assert.equal(effect?.kind, 'write');
  assert.ok(Date.parse(wakeAt ?? '') - Date.parse(since) >= 30_000, `${wakeAt} after ${since}`);
});

describe('a server that asks for patience', () => {
  const refused = (state: DeploymentState, retryAfterSeconds: number): Told => {
    const key = state.effect?.key ?? '';
    return { type: 'refused', key, status: 429, reason: 'TooManyRequests', message: 'slow', retryAfterSeconds };
  };

  test('gets what it asks for, up to half a minute', () => {
    const state = writing('one');
    assert.equal(tell(state, start, refused(state, 12)).wakeAt, addSeconds(start, 12));
    assert.equal(tell(state, start, refused(state, 300)).wakeAt, addSeconds(start, 30));
  });

  test('does not hold up a roll back for longer', () => {
    const state = writing('one');
    const held = tell(state, start, refused(state, 300));
    const asked = tell(held, addSeconds(start, 1), { type: 'rollBackRequested', by: 'someone' });
    assert.ok(asked.effect, 'it begins at once');
    const again = tell(asked, addSeconds(start, 1), refused(asked, 300));
    assert.equal(again.wakeAt, addSeconds(start, 31));
    assert.ok(tell(again, addSeconds(start, 31), { type: 'due' }).effect);
  });
});

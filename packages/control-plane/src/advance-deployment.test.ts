import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unseenGuard } from '@cdaas/pipeline/conditions.ts';
import { decideDeployment } from '@cdaas/pipeline/deployment-machine.ts';
import { type DeploymentState, initialState } from '@cdaas/pipeline/deployment-state.ts';
import { newHash, samplePlan } from '@cdaas/pipeline/testing/samples.ts';
import { type Drive, type DriveDeps, driveOn } from './advance-deployment.ts';
import { createEngine } from './engine.ts';
import type { Transition } from './transitions.ts';

/* One loop of a driver whose surroundings fail. Whole runs are driven under test/engine. */

const begun = Date.parse('2026-03-01T00:00:00.000Z');
const at = (seconds: number) => new Date(begun + seconds * 1000);
const plan = samplePlan();

/** A run whose first call has failed so often in a row. */
function away(tries: number): DeploymentState {
  let state = decideDeployment(initialState('one', [newHash], plan), {
    type: 'started',
    at: at(0).toISOString(),
  }).state;
  for (let done = 0; done < tries; done += 1) {
    const now = state.retry?.until ?? at(0).toISOString();
    state = decideDeployment(state, { type: 'due', at: now }).state;
    const key = state.effect?.key ?? '';
    state = decideDeployment(state, { type: 'unreachable', at: now, key, message: 'nobody there' }).state;
  }
  assert.equal(state.retry?.count, tries);
  return state;
}

function driven(state: DeploymentState, now: Date) {
  const stored: Transition[] = [];
  const followed: DeploymentState[] = [];
  const warnings: string[] = [];
  const log = { warn: (_fields: object, words: string) => void warnings.push(words) };
  const deps = {
    committer: {
      async commit(transition: Transition) {
        stored.push(transition);
        return { won: true, version: transition.version + 1, number: stored.length };
      },
    },
    clients: {
      get: async () => {
        throw new Error('no Postgres to read the registration from');
      },
    },
    vault: {},
    watches: { update: (_row: unknown, told: DeploymentState) => void followed.push(told) },
    kubeEvents: { tell: () => {} },
    clock: { now: () => now },
    log,
    ended: () => {},
  } as unknown as DriveDeps;
  const drive = {
    row: { id: 'one', organisationId: 'o', tenantId: 't', pipelineId: 'p', clusterId: 'c', version: 1 },
    owned: true,
    state,
    plan,
    news: [],
    newest: 0,
    handed: [],
    poke: () => {},
    poked: false,
    answers: false,
    performed: null,
    log,
  } as unknown as Drive;
  return { deps, drive, stored, followed, warnings };
}

test('a cluster that comes and goes is told to a run only where its next try comes sooner', async () => {
  const state = away(8);
  const now = new Date(Date.parse(state.retry?.until ?? '') - 20_000);
  const { deps, drive, stored } = driven(state, now);
  const told = () => stored.flatMap(({ events }) => events).filter(({ type }) => type === 'clusterAnswers').length;
  let looks = 0;
  const closing = () => {
    looks += 1;
    drive.answers = looks < 5;
    return looks > 5;
  };
  drive.answers = true;
  const done = driveOn(deps, drive, closing);
  await done;
  assert.equal(told(), 1);
  assert.equal(drive.state.retry?.count, 8);
});

test('what was stored is not lost where a cluster that is seen again cannot be asked', async () => {
  const state = away(8);
  const now = new Date(Date.parse(state.retry?.until ?? '') - 20_000);
  const { deps, drive, stored, followed, warnings } = driven(state, now);
  drive.news = [{ number: 3, type: 'observed', data: { condition: unseenGuard, holds: false, detail: '' }, at: now }];
  await driveOn(deps, drive, () => true);
  assert.equal(stored.length, 1);
  assert.deepEqual([drive.row.version, drive.news.length, followed.length], [2, 0, 1]);
  assert.equal(drive.state, followed[0]);
  assert.equal(warnings.length, 1);
});

test('a deployment that cannot be read when there is news for it is told to the log', { timeout: 10_000 }, async () => {
  const warned = Promise.withResolvers<unknown>();
  const db = {
    sql: async () => {
      throw new Error('no Postgres');
    },
  };
  const log = { warn: warned.resolve };
  createEngine({ db, log } as unknown as DriveDeps).wake('one');
  assert.match(JSON.stringify(await warned.promise), /"deploymentId":"one"/);
});

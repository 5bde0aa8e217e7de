import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { weight } from '../support/deployment-files.ts';
import { checkLaws } from '../support/laws.ts';
import { withAdmin } from '../support/postgres.ts';
import { type Run, type Seen, tell } from '../support/run.ts';
import { openTrain, type Train } from '../support/train.ts';
import { until } from '../support/until.ts';
import type { WorkerProcess } from '../support/worker-process.ts';
import { openWorld, type World } from '../support/world.ts';

/*
 * The table of kills between the end of one target and the begin of the one that depends on it. The only worker is
 * killed while Postgres holds one of its transactions, which then
 *
 *   is lost   with its connection, as if it had never been sent
 *   is kept   and committed, and nobody hears of it: neither the worker nor anybody whom it would have woken
 *
 * and the next worker must bring both targets to their end, each begun once. Only the moment is chosen, by triggers in
 * the database of the test.
 */

/** The transactions between the two, in their order: which row they change, and how. */
const points = [
  {
    name: 'the last event of the first target',
    on: 'deployment',
    when: "new.target = 'staging' and new.done and not old.done",
  },
  { name: 'taking the pipeline to decide', on: 'pipeline', when: 'old.owner is null and new.owner is not null' },
  { name: 'the decision of the pipeline', on: 'pipeline', when: 'old.owner is not null and new.owner is null' },
  {
    name: 'taking the second target',
    on: 'deployment',
    when: "new.target = 'prod' and old.owner is null and new.owner is not null",
  },
  {
    name: 'the begin of the second target',
    on: 'deployment',
    when: "new.target = 'prod' and old.started_at is null and new.started_at is not null",
  },
  { name: 'the end of the second target', on: 'deployment', when: "new.target = 'prod' and new.done and not old.done" },
] as const;
type Point = (typeof points)[number];
type Fate = 'lost' | 'kept';

/** Key of the advisory lock that transactions wait for at the point that is held. */
const holdKey = 4711;

let world: World;
let worker: WorkerProcess;
let train: Train<'staging' | 'prod'>;
let version = 1;
const table: string[] = [];

before(async () => {
  world = await openWorld('dependants', { workers: 0 });
  await withAdmin(world.url, async (admin) => {
    await admin.query('create table held (point text)');
    await admin.query(`create function hold() returns trigger language plpgsql security definer as $$
      begin
        if exists (select from public.held where point = tg_argv[0]) then
          perform pg_advisory_xact_lock(${holdKey});
        end if;
        return new;
      end $$`);
    for (const { name, on, when } of points) {
      await admin.query(`create trigger "hold ${name}" before update on ${on} for each row when (${when})
        execute function hold('${name}')`);
    }
  });
  worker = await world.spawnWorker();
  train = await openTrain(world, 'staging', 'prod');
});
after(async () => {
  console.log(['killed at                            transaction  end', ...table].join('\n'));
  await world.close();
});

describe('A worker that is killed between two targets', () => {
  for (const point of points) {
    for (const fate of ['lost', 'kept'] as const) {
      it(`at ${point.name}, whose transaction is ${fate}, leaves them to another, which begins each once`, async () => {
        await killAt(point, fate);
      });
    }
  }
});

async function killAt({ name }: Point, fate: Fate): Promise<void> {
  version += 1;
  const { staging, prod } = train.scenes;
  const recorders = await Promise.all([staging.record(), prod.record()]);
  const runs = await withAdmin(world.url, async (admin) => {
    await admin.query('insert into held values ($1)', [name]);
    await admin.query('select pg_advisory_lock($1)', [holdKey]);
    const started = await train.start(
      { staging: { steps: [weight(50)] }, prod: { dependsOn: ['staging'], steps: [weight(50)] } },
      { version: String(version) },
    );
    const waiting = async (): Promise<number | undefined> => {
      const { rows } = await admin.query<{ pid: number }>(
        "select pid from pg_locks where locktype = 'advisory' and objid = $1 and not granted",
        [holdKey],
      );
      return rows[0]?.pid;
    };
    const held = await until(waiting, 'a transaction to be held');
    await worker.kill();
    await admin.query('delete from held');
    if (fate === 'lost') {
      await admin.query('select pg_terminate_backend($1)', [held]);
      // Released only when the transaction is gone: it must not be committed after all.
      await until(async () => (await waiting()) === undefined, 'it to be gone');
    }
    await admin.query('select pg_advisory_unlock($1)', [holdKey]);
    return started;
  });
  worker = await world.spawnWorker();

  const ends = { staging: await runs.staging.end(60_000), prod: await runs.prod.end(60_000) };
  for (const [index, seen] of Object.values(ends).entries()) {
    assert.equal(seen.status, 'SUCCEEDED', tell(seen));
    const recording = await recorders[index]?.stop();
    assert.ok(recording);
    assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', interrupted: true }), [], tell(seen));
  }
  assert.equal(ends.prod.pipelineStatus, 'SUCCEEDED');
  toldOnce(ends.prod, runs);
  table.push(`${name.padEnd(36)} ${fate.padEnd(12)} both SUCCEEDED, each begun once`);
}

/** Every event has its number, and what a pipeline tells of its targets is told once, in order. */
function toldOnce({ events }: Seen, { staging, prod }: Record<'staging' | 'prod', Run>): void {
  assert.deepEqual(
    events.map(({ number }) => number),
    events.map((_, index) => index + 1),
  );
  const told = events.flatMap(({ type, deploymentId, data }) =>
    ['started', 'targetEnded', 'pipelineEnded'].includes(type) ? [[type, deploymentId ?? data.deployment]] : [],
  );
  assert.deepEqual(told, [
    ['started', staging.deploymentId],
    ['targetEnded', staging.deploymentId],
    ['started', prod.deploymentId],
    ['targetEnded', prod.deploymentId],
    ['pipelineEnded', undefined],
  ]);
}

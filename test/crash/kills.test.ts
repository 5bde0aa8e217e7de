import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import type { StrategyStep } from '@cdaas/pipeline/plan.ts';
import type { InterceptedRequest, Verdict } from '@cdaas/sandbox/writes.ts';
import { pause, service, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import { ofPair, outOfStep } from '../support/pairs.ts';
import { hashOf } from '../support/recorder.ts';
import { type Run, type Seen, tell } from '../support/run.ts';
import { asksForWeight } from '../support/test-cluster.ts';
import type { WorkerProcess } from '../support/worker-process.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/*
 * The table of kills: for every write of a canary and of its roll back, the worker process that sent it is killed
 *
 *   before   the write is carried out; the cluster gets to it only after everything is over
 *   after    it was carried out, and the answer is lost
 *
 * and another worker process must bring the run to the same end, with every law kept. Processes, Postgres and the
 * cluster's API are real; only the moment is chosen, by holding the request in the cluster.
 */

type Way = 'finish' | 'rollBack';
type Write = {
  name: string;
  way: Way;
  /** The file names a canary Service of its own. */
  given?: true;
  /** Further Deployments of the target; they go in lock step, and `api` before `web`. */
  also?: string[];
  matches(request: InterceptedRequest, oldHash: string): boolean;
};
type Phase = 'before' | 'after';

const to = (verb: string, path: RegExp) => (request: InterceptedRequest) =>
  request.verb === verb && path.test(request.path);
const replicas = (count: number) => (request: InterceptedRequest, oldHash: string, old: boolean) =>
  to('patch', /\/replicasets\//)(request) &&
  request.path.endsWith(oldHash) === old &&
  (request.body as { spec?: { replicas?: number } }).spec?.replicas === count;
const pins = (service: string, { verb, path, body }: InterceptedRequest, to: (pin: string | null) => boolean) => {
  if (verb !== 'patch' || !path.endsWith(`/services/${service}`)) return false;
  const { apiVersion, spec } = body as { apiVersion?: string; spec?: { selector?: Record<string, string | null> } };
  const pin = spec?.selector?.[hashKey];
  return apiVersion === undefined && pin !== undefined && to(pin);
};

const creates = (name: string) => (request: InterceptedRequest) =>
  to('create', /\/replicasets$/)(request) &&
  (request.body as { metadata: { name: string } }).metadata.name.startsWith(name);
const isOfWeb = ({ path }: InterceptedRequest) => path.endsWith('/web');

const writes: Write[] = [
  {
    name: 'P0.object.0',
    way: 'finish',
    matches: (r) => to('patch', /\/services\/web$/)(r) && 'apiVersion' in (r.body as object),
  },
  { name: 'S2.pin', way: 'finish', matches: (r, old) => pins('web', r, (pin) => pin === old) },
  { name: 'S3.canary', way: 'finish', matches: to('create', /\/services$/) },
  { name: 'S4.create', way: 'finish', matches: to('create', /\/replicasets$/) },
  { name: 'S4.scale', way: 'finish', matches: (r, old) => replicas(2)(r, old, false) },
  { name: 'S6.create', way: 'finish', matches: to('create', /\/trafficsplits$/) },
  { name: 'S7.1.weight', way: 'finish', matches: asksForWeight(10) },
  { name: 'S7.3.weight', way: 'finish', matches: asksForWeight(60) },
  { name: 'F1.weight', way: 'finish', matches: asksForWeight(100) },
  { name: 'F2.pin', way: 'finish', matches: (r, old) => pins('web', r, (pin) => pin !== null && pin !== old) },
  { name: 'F3.weight', way: 'finish', matches: asksForWeight(0) },
  { name: 'F4.delete', way: 'finish', matches: to('delete', /\/trafficsplits\//) },
  { name: 'F5.canary', way: 'finish', matches: to('delete', /\/services\//) },
  { name: 'F6.scale', way: 'finish', matches: (r, old) => replicas(0)(r, old, true) },
  { name: 'F6.delete', way: 'finish', matches: to('delete', /\/replicasets\//) },
  { name: 'F7.unpin', way: 'finish', matches: (r) => pins('web', r, (pin) => pin === null) },
  { name: 'R1.weight', way: 'rollBack', matches: asksForWeight(0) },
  { name: 'R2.delete', way: 'rollBack', matches: to('delete', /\/trafficsplits\//) },
  { name: 'R3.canary', way: 'rollBack', matches: to('delete', /\/services\//) },
  { name: 'R4.scale', way: 'rollBack', matches: (r, old) => replicas(0)(r, old, false) },
  { name: 'R4.delete', way: 'rollBack', matches: to('delete', /\/replicasets\//) },
  { name: 'R5.unpin', way: 'rollBack', matches: (r) => pins('web', r, (pin) => pin === null) },
  { name: 'S3 given', way: 'finish', given: true, matches: (r) => pins('preview', r, (pin) => pin !== null) },
  { name: 'F5 given', way: 'finish', given: true, matches: (r) => pins('preview', r, (pin) => pin === null) },
  { name: 'R3 given', way: 'rollBack', given: true, matches: (r) => pins('preview', r, (pin) => pin === null) },
  { name: 'R6.object.0', way: 'rollBack', matches: to('update', /\/services\/web$/) },
  // Of two pairs: `api` is a step ahead.
  { name: 'S4.create of two', way: 'finish', also: ['api'], matches: creates('web-') },
  { name: 'S7.3.weight of two', way: 'finish', also: ['api'], matches: (r) => asksForWeight(60)(r) && isOfWeb(r) },
  {
    name: 'F2.pin of two',
    way: 'finish',
    also: ['api'],
    matches: (r, old) => pins('web', r, (pin) => pin !== null && pin !== old),
  },
  { name: 'R1.weight of two', way: 'rollBack', also: ['api'], matches: (r) => asksForWeight(0)(r) && isOfWeb(r) },
  { name: 'R2.delete of two', way: 'rollBack', also: ['api'], matches: to('delete', /\/trafficsplits\/web$/) },
];
const phases: Phase[] = ['before', 'after'];

/** A database with two worker processes on it, one of which takes over from the other. */
type Lane = { world: World; workers: WorkerProcess[] };
const lanes: Lane[] = [];
const free: Lane[] = [];
const waiting: ((lane: Lane) => void)[] = [];
const table = new Map<string, string>();
const laneCount = 2;

before(async () => {
  await Promise.all(
    Array.from({ length: laneCount }, async (_, index) => {
      const world = await openWorld(`kills-${index}`, { workers: 0 });
      const lane = { world, workers: await Promise.all([world.spawnWorker(), world.spawnWorker()]) };
      lanes.push(lane);
      free.push(lane);
    }),
  );
});
after(async () => {
  const rows = writes.flatMap(({ name }) =>
    phases.map((phase) => table.get(`${name} ${phase}`) ?? `${name}: not done`),
  );
  console.log(['write              killed   watches  ms to the next write  end', ...rows].join('\n'));
  await Promise.all(lanes.map(({ world }) => world.close()));
});

describe('A worker that is killed', { concurrency: laneCount }, () => {
  for (const write of writes) {
    for (const phase of phases) {
      it(`${phase} ${write.name} leaves the deployment to another, which ends it the same`, async () => {
        const lane = free.pop() ?? (await new Promise<Lane>((resolve) => waiting.push(resolve)));
        try {
          await killAt(lane, write, phase);
        } finally {
          const next = waiting.shift();
          if (next) next(lane);
          else free.push(lane);
        }
      });
    }
  }
});

async function killAt({ world, workers }: Lane, write: Write, phase: Phase): Promise<void> {
  const scene = await world.scene();
  // Shorter than a file may ask for, and past the end of a roll back.
  const steps: StrategyStep[] = [
    { kind: 'setWeight', weight: 10 },
    { kind: 'pause', duration: 0.1, unit: 'SECONDS' },
    { kind: 'setWeight', weight: 60 },
    { kind: 'pause', duration: write.way === 'finish' ? 0.1 : 600, unit: 'SECONDS' },
  ];
  await world.shorten(scene.namespace, { steps });
  const { also = [] } = write;
  await scene.first({ also });
  if (write.given) await scene.client.create('Service', scene.namespace, service('preview'));
  const canary = write.given ? 'preview' : 'web-canary';
  const replicaSets = (await scene.client.list('ReplicaSet', scene.namespace)).objects;
  const old = replicaSets.find(({ metadata }) => metadata.name.startsWith('web-'));
  const recorder = await scene.record();
  const held = holdRequest(scene, phase, (request) => write.matches(request, hashOf(old)));

  const run = await scene.deploy({
    version: '2',
    also,
    steps: [weight(10), pause(1), weight(60), pause(600)],
    ...(write.given ? { smi: { canaryServiceName: canary } } : {}),
  });
  if (write.way === 'rollBack') {
    await run.until('the second weight', ({ status, state }) => status === 'PAUSED' && state.at === 'step.4');
    await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
  }
  await held.reached;
  const { owner, watches } = await ownersOf(world, workers, run);
  await owner.kill();
  const killedAt = Date.now();
  workers.splice(workers.indexOf(owner), 1);
  const replacement = world.spawnWorker();
  if (phase === 'after') held.release('drop');

  const seen = await run.end();
  const nextAt = recorder.writes.find(({ at }) => at >= killedAt)?.at;
  const recording = await recorder.stop();
  if (phase === 'before') await letThrough(scene, held);
  workers.push(await replacement);

  const end = write.way === 'finish' ? 'succeeded' : 'rolledBack';
  const took = nextAt === undefined ? '-' : String(nextAt - killedAt);
  table.set(
    `${write.name} ${phase}`,
    `${write.name.padEnd(18)} ${phase.padEnd(8)} ${watches.padEnd(8)} ${took.padStart(20)}  ${seen.status}, ${end === 'succeeded' ? 'as after a run that nobody disturbed' : 'as before the deployment'}`,
  );
  assert.equal(seen.status, write.way === 'finish' ? 'SUCCEEDED' : 'CANCELLED', tell(seen));
  assert.equal(seen.pipelineStatus, seen.status);
  const served = write.way === 'finish' ? '2' : '1';
  for (const root of ['web', ...also]) {
    const own = also.length === 0 ? recording : ofPair(recording, root);
    const names = { root, canary: root === 'web' ? canary : `${root}-canary` };
    const expected = { ...names, replicas: 2, end, interrupted: true, canaryGiven: write.given === true } as const;
    assert.deepEqual(checkLaws(own, expected), [], tell(seen));
    assert.deepEqual(
      weightsWritten(own, names),
      write.way === 'finish' ? ['100/0', '90/10', '40/60', '0/100', '100/0'] : ['100/0', '90/10', '40/60', '100/0'],
    );
    const answers = scene.cluster.sandbox.send({ namespace: scene.namespace, service: root, count: 20 });
    assert.deepEqual(answers, { answers: { [served]: 20 }, failed: 0 });
  }
  if (also.length > 0) assert.deepEqual(outOfStep(recording, ['web', ...also], [0, 10, 60, 100]), []);
  nothingToldTwice(seen);
}

/** Every event has its number, every effect one outcome, and what was done is told once. */
function nothingToldTwice(seen: Seen): void {
  assert.deepEqual(
    seen.events.map(({ number }) => number),
    seen.events.map((_, index) => index + 1),
  );
  const done = seen.events.filter(({ type }) => type === 'written' || type === 'found' || type === 'surveyed');
  const keys = done.map(({ data }) => String(data.key));
  assert.equal(new Set(keys).size, keys.length, `an effect has two outcomes\n${tell(seen)}`);
  const told = seen.events.flatMap(({ type, message, data }) =>
    type === 'surveyed' || !message ? [] : [`${message} ${type === 'observed' ? data.condition : ''}`],
  );
  assert.deepEqual(
    told.filter((message, index) => told.indexOf(message) !== index),
    [],
    tell(seen),
  );
}

async function ownersOf(world: World, workers: WorkerProcess[], run: Run) {
  const owner = await world.ownerOf(run.deploymentId);
  assert.ok(owner && workers.includes(owner), 'no worker of this lane drives the deployment');
  const row = await world.db.prisma.deployment.findUniqueOrThrow({ where: { id: run.deploymentId } });
  const lease = await world.db.prisma.watchLease.findUnique({ where: { clusterId: row.clusterId } });
  return { owner, watches: lease?.owner === owner.workerId ? 'its own' : 'other' };
}

type Held = {
  reached: Promise<InterceptedRequest>;
  release(verdict: Verdict): void;
  /** The held request has been carried out. */
  carriedOut: Promise<void>;
};

/** Holds the first request that matches, and tells when the cluster is done with it. */
function holdRequest(
  { cluster, namespace }: Scene,
  phase: 'before' | 'after',
  matches: (request: InterceptedRequest) => boolean,
): Held {
  const reached = Promise.withResolvers<InterceptedRequest>();
  const verdict = Promise.withResolvers<Verdict>();
  const carriedOut = Promise.withResolvers<void>();
  cluster.held.add(verdict.resolve);
  let mine: InterceptedRequest | undefined;
  cluster.intercept(namespace, (request, when) => {
    if (mine === undefined && when === phase && matches(request)) {
      mine = request;
      reached.resolve(request);
      return verdict.promise;
    }
    if (request === mine && when === 'after') carriedOut.resolve();
    return 'continue';
  });
  return { reached: reached.promise, release: verdict.resolve, carriedOut: carriedOut.promise };
}

/**
 * The request that was on its way when its sender died is carried out after the end: refused by its precondition, or
 * without any effect on traffic. What it may leave is removed as the next deployment would.
 */
async function letThrough(scene: Scene, held: Held): Promise<void> {
  const { client, namespace } = scene;
  const request = await held.reached;
  const before = await client.versions(namespace);
  held.release('continue');
  await held.carriedOut;
  const after = await client.versions(namespace);
  const left = Object.keys(after).filter((key) => !(key in before));
  const changed = Object.keys(before).filter((key) => !key.startsWith('EndpointSlice/') && before[key] !== after[key]);
  assert.deepEqual(changed, [], 'a late request changed something that was there');
  if (request.verb !== 'create') assert.deepEqual(left, []);
  for (const key of left.filter((key) => !key.startsWith('EndpointSlice/') && !key.startsWith('ServiceProfile/'))) {
    const [kind, name] = key.split('/') as ['Service' | 'TrafficSplit' | 'ReplicaSet', string];
    const { spec } = (await client.get(kind, namespace, name)) as { spec?: { replicas?: number } };
    if (kind === 'ReplicaSet') assert.equal(spec?.replicas, 0);
    await client.delete(kind, namespace, name);
  }
}

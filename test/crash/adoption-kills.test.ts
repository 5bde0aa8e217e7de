import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { deploymentKey } from '@cdaas/pipeline/marks.ts';
import type { InterceptedRequest } from '@cdaas/sandbox/writes.ts';
import { approval, service, weight, workload } from '../support/deployment-files.ts';
import { checkLaws } from '../support/laws.ts';
import { fewestReady } from '../support/recorder.ts';
import { tell } from '../support/run.ts';
import { holdWrite } from '../support/test-cluster.ts';
import { until } from '../support/until.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/*
 * The kills of kills.test.ts, for the writes about Deployment objects: the worker that sent one is killed before it is
 * carried out, which happens when all is over, or after it was, and another brings the run to the same end.
 */

type Way = 'takeOver' | 'keep' | 'rollBack';
type Write = { name: string; way: Way; matches(request: InterceptedRequest): boolean };

const to = (verb: string, path: RegExp) => (request: InterceptedRequest) =>
  request.verb === verb && path.test(request.path);
const labels =
  (app: string | null) =>
  ({ verb, path, body }: InterceptedRequest) =>
    verb === 'patch' &&
    path.includes('/replicasets/') &&
    (body as { metadata?: { labels?: { app?: string | null } } }).metadata?.labels?.app === app;
const empties = ({ verb, path, body }: InterceptedRequest) =>
  verb === 'patch' && path.includes('/replicasets/') && (body as { spec?: { replicas?: number } }).spec?.replicas === 0;
const deployment = /\/deployments\/web$/;
const deployments = /\/deployments$/;

const writes: Write[] = [
  { name: 'F6.orphan', way: 'takeOver', matches: to('delete', deployment) },
  { name: 'F6.empty', way: 'takeOver', matches: empties },
  { name: 'F6.clear', way: 'takeOver', matches: to('delete', /\/replicasets\//) },
  { name: 'S1.orphan', way: 'keep', matches: to('delete', deployment) },
  { name: 'S1.unlabel', way: 'keep', matches: labels(null) },
  { name: 'F8.create', way: 'keep', matches: to('create', deployments) },
  { name: 'F8.label', way: 'keep', matches: labels('web') },
  { name: 'F8.resume', way: 'keep', matches: to('patch', deployment) },
  { name: 'R7.create', way: 'rollBack', matches: to('create', deployments) },
  { name: 'R7.label', way: 'rollBack', matches: labels('web') },
  { name: 'R7.resume', way: 'rollBack', matches: to('patch', deployment) },
];

let world: World;
before(async () => {
  world = await openWorld('adoption-kills', { workers: 0 });
  await Promise.all([world.spawnWorker(), world.spawnWorker()]);
});
after(() => world.close());

describe('A worker that is killed', { concurrency: 2 }, () => {
  for (const write of writes) {
    for (const phase of ['before', 'after'] as const) {
      it(`${phase} ${write.name} leaves the deployment to another, which ends it the same`, () => killAt(write, phase));
    }
  }
});

async function killAt({ way, matches }: Write, phase: 'before' | 'after'): Promise<void> {
  const scene = await world.scene();
  const { client, namespace } = scene;
  if (way === 'takeOver') {
    await client.create('Service', namespace, service('web'));
    await client.create('Deployment', namespace, workload({ version: '1' }));
    await until(async () => statusOf(await client.get('Deployment', namespace, 'web')).availableReplicas === 2, 'pods');
  } else await scene.first({ keep: true });
  const old = await formsOf(scene);
  const recorder = await scene.record();
  const held = way === 'rollBack' ? undefined : holdWrite(scene, matches, phase);
  const run = await scene.deploy({
    version: '2',
    steps: way === 'rollBack' ? [weight(50), approval()] : [weight(50)],
    ...(way === 'takeOver' ? { root: null } : { keep: true }),
  });
  if (way === 'rollBack') await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
  const holding = held ?? holdWrite(scene, matches, phase);
  if (way === 'rollBack') await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
  const request = await holding.reached;
  const carriedOut = Promise.withResolvers<void>();
  scene.cluster.intercept(namespace, (asked, when) => {
    if (asked === request && when === 'after') carriedOut.resolve();
    return 'continue';
  });
  const owner = await world.ownerOf(run.deploymentId);
  assert.ok(owner, 'a worker drives it');
  await owner.kill();
  await world.spawnWorker();
  if (phase === 'after') holding.release('drop');
  const seen = await run.end(60_000);
  const recording = await recorder.stop();
  const end = await client.versions(namespace);
  holding.release();
  if (phase === 'before') await carriedOut.promise;

  assert.equal(seen.status, way === 'rollBack' ? 'CANCELLED' : 'SUCCEEDED', tell(seen));
  assert.deepEqual(seen.state.leftInCluster, []);
  const [hash = ''] = seen.state.hashes;
  if (way === 'takeOver') {
    assert.deepEqual(await namesOf(scene, 'Deployment'), []);
    assert.deepEqual(await namesOf(scene, 'ReplicaSet'), [`web-${hash}`]);
    assert.ok(fewestReady(recording) >= 2);
  } else {
    const { replicas, updatedReplicas } = statusOf(await client.get('Deployment', namespace, 'web'));
    assert.deepEqual([replicas, updatedReplicas], [2, 2]);
    assert.equal((await client.get('Deployment', namespace, 'web'))?.metadata.labels?.[deploymentKey], undefined);
    if (way === 'rollBack') assert.deepEqual(await formsOf(scene), old);
    else assert.deepEqual(await namesOf(scene, 'ReplicaSet'), [`web-${hash}`]);
    const started = recording.changes.filter(({ kind, type }) => kind === 'Pod' && type === 'ADDED');
    assert.equal(started.length, 2, 'no pods but those of the new version');
    const expected = { replicas: 2, end: way === 'keep' ? 'succeeded' : 'rolledBack', interrupted: true } as const;
    assert.deepEqual(checkLaws(recording, expected), [], tell(seen));
  }
  // What arrives when all is over finds nothing to change.
  await until(async () => (await client.list('Pod', namespace)).objects.length === 2, 'two pods');
  const later = await client.versions(namespace);
  const settled = (versions: Record<string, string>) =>
    Object.entries(versions).filter(([key]) => !/^(EndpointSlice|Pod)\//.test(key));
  assert.deepEqual(settled(later), settled(end));
}

type Status = { replicas?: number; updatedReplicas?: number; availableReplicas?: number };

function statusOf(object: KubernetesObject | undefined): Status {
  return (object?.status ?? {}) as Status;
}

async function namesOf({ client, namespace }: Scene, kind: 'Deployment' | 'ReplicaSet'): Promise<string[]> {
  return (await client.list(kind, namespace)).objects.map(({ metadata }) => metadata.name);
}

/** Deployments and ReplicaSets as they were written. */
async function formsOf({ client, namespace }: Scene): Promise<unknown> {
  const lists = await Promise.all([client.list('Deployment', namespace), client.list('ReplicaSet', namespace)]);
  return lists.flatMap(({ objects }) =>
    objects.map(({ metadata, spec }) => [metadata.name, metadata.labels ?? {}, spec]),
  );
}

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { approval, type Shop, service, weight, workload } from '../support/deployment-files.ts';
import { checkLaws } from '../support/laws.ts';
import { fewestReady, momentsOf } from '../support/recorder.ts';
import { type Run, type Seen, tell } from '../support/run.ts';
import { type AnyCluster, holdWrite } from '../support/test-cluster.ts';
import { until } from '../support/until.ts';
import { type AnyScene, openWorld, type Tenant, type World } from '../support/world.ts';
import type { ClusterName } from './place.ts';
import { untilServed, versionsBehind } from './versions-behind.ts';

/**
 * Deployment objects: taken over, kept, and met in the middle of a run. The same on the sandbox and on real Kubernetes,
 * whose Deployment controller and garbage collector do their part.
 */
export function runAdoptions(
  cluster: ClusterName,
  open: (world: World) => Promise<AnyCluster>,
  skip: string | false = false,
): void {
  describe(`${cluster} cluster: Deployment objects`, { skip }, () => {
    let world: World;
    let tenant: Tenant;
    let where: AnyCluster;
    before(async () => {
      world = await openWorld(`adoption-${cluster}`);
      where = await open(world);
      tenant = await world.tenant('main');
    });
    after(() => world?.close());
    const title = (words: string) => `${cluster}: ${words}`;
    const rollBack = (run: Run) => rollBackDeployment(tenant.ctx, { id: run.deploymentId });
    const approve = (run: Run, step: number) =>
      approveStep(tenant.ctx, { id: run.deploymentId, ref: `canary-step-${step}` });
    const scene = () => world.sceneOn(tenant, where);

    /** A namespace where people run version 1 by a Deployment of theirs, with a revision from before. */
    async function withPlain(replicas = 3): Promise<AnyScene> {
      const here = await scene();
      const { client, namespace } = here;
      await client.create('Service', namespace, service('web'));
      await client.create('Deployment', namespace, plain(0, '0'));
      await settled(here, 0);
      await client.patch('Deployment', namespace, 'web', { spec: spec(replicas, '1') });
      await settled(here, replicas);
      return here;
    }

    describe(title('taken over'), { concurrency: 3 }, () => {
      it(
        title('C12: a plain Deployment goes with its ReplicaSets, and never fewer than its pods are ready'),
        async () => {
          const here = await withPlain();
          const recorder = await here.record();
          const seen = await (await here.deploy({ version: '2', replicas: 3, root: null })).end(60_000);
          const recording = await recorder.stop();
          assert.equal(seen.status, 'SUCCEEDED', tell(seen));
          assert.ok(fewestReady(recording) >= 3, `${fewestReady(recording)} pods were ready`);
          assert.deepEqual(await names(here, 'Deployment'), []);
          assert.deepEqual(await names(here, 'ReplicaSet'), [`web-${seen.state.hashes[0]}`]);
          assert.equal(seen.state.steps[0]?.status, 'NOT_STARTED');
          assert.match(seen.state.warnings.join(), /is taken over/);
        },
      );

      it(title('C13: a run that fails leaves it, its ReplicaSets and its pods as they were'), async () => {
        const here = await withPlain();
        await world.shorten(here.namespace, { readyTimeoutSeconds: 2 });
        const before = await uids(here);
        const run = await here.deploy({ version: '2-never-ready', replicas: 3, root: null });
        const seen = await run.end(60_000);
        assert.equal(seen.status, 'FAILED', tell(seen));
        assert.match(seen.state.error ?? '', /0 of 3 pods ready/);
        await until(
          async () => (await here.client.list('Pod', here.namespace)).objects.length === 3,
          'the new pods gone',
        );
        assert.deepEqual(await uids(here), before);
        assert.deepEqual(seen.state.leftInCluster, []);
      });

      it(title('one that somebody changes meanwhile holds the run, by name, until it is as it was'), async () => {
        const here = await withPlain(2);
        const held = holdWrite(here, scales(2));
        const run = await here.deploy({ version: '2', root: null });
        await held.reached;
        await here.client.apply('Deployment', here.namespace, 'web', { ...plain(2, '9'), metadata: { name: 'web' } });
        held.release();
        const waiting = await run.until(
          'the hold',
          ({ state }) => state.at === 'F6.survey' && state.retry !== null,
          60_000,
        );
        assert.match(waitingFor(waiting.state) ?? '', /Deployment web was changed by argocd-controller/);
        await here.client.patch('Deployment', here.namespace, 'web', { spec: spec(2, '1') });
        const seen = await run.end(90_000);
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.deepEqual(await names(here, 'ReplicaSet'), [`web-${seen.state.hashes[0]}`]);
      });

      it(title('one that somebody scales meanwhile is taken over all the same'), async () => {
        const here = await withPlain(2);
        const held = holdWrite(here, scales(2));
        const run = await here.deploy({ version: '2', root: null });
        await held.reached;
        await here.client.patch('Deployment', here.namespace, 'web', { spec: { replicas: 3 } });
        held.release();
        const seen = await run.end(60_000);
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        await untilServed(here, ['2', '2']);
      });

      it(title('the answer to its deletion may be lost'), async () => {
        const here = await withPlain(2);
        const held = holdWrite(here, deletesDeployment, 'after');
        const run = await here.deploy({ version: '2', root: null });
        await held.reached;
        held.release('drop');
        const seen = await run.end(60_000);
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.deepEqual(await names(here, 'ReplicaSet'), [`web-${seen.state.hashes[0]}`]);
      });

      it(title('one that is made again takes its pods back: they serve until it is gone'), async () => {
        const here = await withPlain(2);
        const { client, namespace } = here;
        const held = holdWrite(here, scales(0));
        const run = await here.deploy({ version: '2', root: null });
        await held.reached;
        await client.apply('Deployment', namespace, 'web', { ...plain(2, '1'), metadata: { name: 'web' } });
        await until(async () => (await controllers(here)).includes('web'), 'the ReplicaSet taken back');
        held.release();
        const told = /Deployment web stands beside this run \(made by argocd-controller\); remove it: kubectl delete/;
        const waiting = await run.until('the hold', (seen) => told.test(waitingFor(seen.state) ?? ''), 60_000);
        assert.equal(waiting.status, 'FINISHING');
        await untilServed(here, ['1', '1', '2', '2']);
        await client.delete('Deployment', namespace, 'web');
        const seen = await run.end(90_000);
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.deepEqual(await names(here, 'ReplicaSet'), [`web-${seen.state.hashes[0]}`]);
        await untilServed(here, ['2', '2']);
      });
    });

    describe(title('kept'), { concurrency: 3 }, () => {
      it(title('C14: it stands over the pods that run, and none was started for it'), async () => {
        const here = await scene();
        const recorder = await here.record();
        const seen = await here.first({ keep: true });
        const recording = await recorder.stop();
        assert.equal(recording.changes.filter(({ kind, type }) => kind === 'Pod' && type === 'ADDED').length, 2);
        assert.deepEqual(await standing(here), {
          replicas: 2,
          updated: 2,
          paused: false,
          owned: `web-${seen.state.hashes[0]}`,
        });
        assert.deepEqual(await names(here, 'ReplicaSet'), [`web-${seen.state.hashes[0]}`]);
      });

      it(title('the next version is a canary, and in the end it stands over that'), async () => {
        const here = await scene();
        await here.first({ keep: true });
        const recorder = await here.record();
        const seen = await (await here.deploy({ version: '2', keep: true, steps: [weight(50)] })).end(60_000);
        const recording = await recorder.stop();
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded' }), []);
        assert.deepEqual(await standing(here), {
          replicas: 2,
          updated: 2,
          paused: false,
          owned: `web-${seen.state.hashes[0]}`,
        });
        assert.equal(recording.changes.filter(({ kind, type }) => kind === 'Pod' && type === 'ADDED').length, 2);
        assert.deepEqual(seen.state.warnings, []);
      });

      it(title('a roll back makes it again over the same pods'), async () => {
        const here = await scene();
        const first = await here.first({ keep: true });
        const before = await uids(here, ['ReplicaSet', 'Pod']);
        const form = formOf(await here.client.get('Deployment', here.namespace, 'web'));
        const run = await here.deploy({ version: '2', keep: true, steps: [weight(50), approval()] });
        await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
        assert.deepEqual(await names(here, 'Deployment'), []);
        await rollBack(run);
        const seen = await run.end(60_000);
        assert.equal(seen.status, 'CANCELLED', tell(seen));
        assert.deepEqual(seen.state.leftInCluster, []);
        assert.deepEqual(await standing(here), {
          replicas: 2,
          updated: 2,
          paused: false,
          owned: `web-${first.state.hashes[0]}`,
        });
        assert.deepEqual(await uids(here, ['ReplicaSet', 'Pod']), before);
        assert.deepEqual(formOf(await here.client.get('Deployment', here.namespace, 'web')), form);
      });

      const restarted = async () => {
        const here = await scene();
        const { client, namespace } = here;
        await here.first({ keep: true });
        const annotations = { 'kubectl.kubernetes.io/restartedAt': '2026-01-01T00:00:00Z' };
        await client.patch('Deployment', namespace, 'web', { spec: { template: { metadata: { annotations } } } });
        await settled(here, 2);
        await until(async () => (await client.list('Pod', namespace)).objects.length === 2, 'the restart to end');
        return here;
      };

      it(title('what kubectl rolled out by it is the version before the next canary'), async () => {
        const here = await restarted();
        const seen = await (await here.deploy({ version: '2', steps: [weight(50)] })).end(60_000);
        assert.equal(seen.status, 'SUCCEEDED', tell(seen));
        assert.deepEqual(await names(here, 'ReplicaSet'), [`web-${seen.state.hashes[0]}`]);
        assert.deepEqual(await names(here, 'Deployment'), []);
        assert.deepEqual(await versionsBehind(here), ['2', '2']);
      });

      it(
        title('what kubectl rolled out by it is held during a canary, and owned again after a roll back'),
        async () => {
          const here = await restarted();
          const { client, namespace } = here;
          const run = await here.deploy({ version: '2', keep: true, steps: [weight(50), approval()] });
          const { state } = await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
          assert.doesNotMatch(waitingFor(state) ?? '', /attention/);
          const old = state.survey?.workloads[0]?.old?.name ?? '';
          await client.patch('ReplicaSet', namespace, old, { spec: { replicas: 0 } });
          const wanted = async () => (await client.get('ReplicaSet', namespace, old))?.spec as { replicas: number };
          await until(async () => (await wanted()).replicas === 2, 'its pods to be asked for again');
          await rollBackDeployment(here.tenant.ctx, { id: run.deploymentId });
          const seen = await run.end(30_000);
          assert.equal(seen.status, 'CANCELLED', tell(seen));
          assert.deepEqual(seen.state.warnings, [
            `ReplicaSet ${old} was changed by kubectl while the deployment ran; it was put back`,
          ]);
          assert.deepEqual(await standing(here), { replicas: 2, updated: 2, paused: false, owned: old });
        },
      );
    });

    describe(title('made by somebody in the middle of a run'), { concurrency: 3 }, () => {
      const steps: Shop['steps'] = [weight(10), approval(), weight(60)];
      const applied = (version: string) => ({ ...plain(2, version), metadata: { name: 'web' } });
      const besides = ({ state }: Seen) => state.observed['guard.deployment.0']?.holds === true;

      it(title('it gets no traffic, and weights stay until it is gone'), async () => {
        const here = await scene();
        const { client, namespace } = here;
        await here.first();
        const recorder = await here.record();
        const run = await here.deploy({ version: '2', steps });
        await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
        await client.apply('Deployment', namespace, 'web', applied('git'));
        const told = await run.until('the news', besides, 60_000);
        assert.match(
          waitingFor(told.state) ?? '',
          /Deployment web stands beside this run \(made by argocd-controller\)/,
        );
        await settled(here, 2);
        await approve(run, 2);
        const held = await run.until('the hold', ({ state }) => state.at === 'S7.3.weight.0', 60_000);
        assert.match(waitingFor(held.state) ?? '', /no weight rises until that is over/);
        const { moment } = [...momentsOf(await recorder.stop())].at(-1) ?? {};
        assert.deepEqual(Object.values(moment?.shares('web') ?? {}).sort(), [0.1, 0.9]);
        assert.deepEqual(moment?.meshWeights('web'), { web: 90, 'web-canary': 10 });
        assert.equal(moment?.shares('web').none, undefined);
        await client.delete('Deployment', namespace, 'web');
        assert.equal((await run.end(60_000)).status, 'SUCCEEDED');
        assert.deepEqual(await versionsBehind(here), ['2', '2']);
      });

      it(title('past the point of no return root stays with the new pods until it and its pods are gone'), async () => {
        const here = await scene();
        const { client, namespace } = here;
        const { state } = await here.first();
        const held = holdWrite(here, scales(0, state.hashes[0]));
        const run = await here.deploy({ version: '2' });
        await held.reached;
        await client.apply('Deployment', namespace, 'web', applied('git'));
        await settled(here, 2);
        held.release();
        const waiting = await run.until('the hold', (seen) => seen.state.at === 'F7.unpin.0' && besides(seen), 60_000);
        assert.match(waitingFor(waiting.state) ?? '', /the deployment ends once that is over/);
        assert.deepEqual(await versionsBehind(here), ['2', '2']);
        await client.send('DELETE', `/apis/apps/v1/namespaces/${namespace}/deployments/web?propagationPolicy=Orphan`);
        const strangers = /Service web would select pods of another version/;
        await run.until('its pods', (seen) => strangers.test(waitingFor(seen.state) ?? ''), 60_000);
        const [left] = (await client.list('ReplicaSet', namespace)).objects.filter(
          ({ metadata }) => metadata.labels?.[hashKey] === undefined,
        );
        assert.ok(left);
        await client.delete('ReplicaSet', namespace, left.metadata.name);
        assert.equal((await run.end(60_000)).status, 'SUCCEEDED');
        assert.deepEqual(await versionsBehind(here), ['2', '2']);
      });

      it(title('a roll back leaves it, and says that its pods get traffic'), async () => {
        const here = await scene();
        const { client, namespace } = here;
        await here.first();
        const run = await here.deploy({ version: '2', steps });
        await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
        await client.apply('Deployment', namespace, 'web', applied('git'));
        await run.until('the news', besides, 60_000);
        await rollBack(run);
        const seen = await run.end(60_000);
        assert.equal(seen.status, 'CANCELLED', tell(seen));
        assert.match(
          seen.state.leftInCluster.join(),
          new RegExp(`its pods get traffic beside the previous version: kubectl delete deployment web -n ${namespace}`),
        );
        assert.deepEqual(await names(here, 'Deployment'), ['web']);
      });

      it(title('a start is refused while it stands beside the version before'), async () => {
        const here = await scene();
        await here.first();
        await here.client.apply('Deployment', here.namespace, 'web', applied('git'));
        const seen = await (await here.deploy({ version: '2' })).end(60_000);
        assert.equal(seen.status, 'FAILED', tell(seen));
        assert.match(
          seen.state.error ?? '',
          /made by argocd-controller, stands beside the version that was deployed before/,
        );
      });
    });
  });
}

const spec = (replicas: number, version: string) => ({
  ...(workload({ version, replicas }).spec as object),
  revisionHistoryLimit: 3,
});

function plain(replicas: number, version: string) {
  return { ...workload({ version, replicas }), spec: spec(replicas, version) };
}

/** The Deployment controller is done: all its pods are of the newest template, and ready. */
async function settled({ client, namespace }: AnyScene, replicas: number): Promise<void> {
  await until(async () => {
    const found = await client.get('Deployment', namespace, 'web');
    const { observedGeneration, updatedReplicas = 0, availableReplicas = 0, replicas: all = 0 } = statusOf(found);
    const current = observedGeneration === found?.metadata.generation;
    return current && updatedReplicas === replicas && availableReplicas === replicas && all === replicas;
  }, 'the Deployment to settle');
}

type Status = {
  observedGeneration?: number;
  replicas?: number;
  updatedReplicas?: number;
  availableReplicas?: number;
};

function statusOf(object: KubernetesObject | undefined): Status {
  return (object?.status ?? {}) as Status;
}

async function standing({ client, namespace }: AnyScene) {
  const deployment = await client.get('Deployment', namespace, 'web');
  const { objects } = await client.list('ReplicaSet', namespace);
  const owned = objects.filter(({ metadata }) => metadata.ownerReferences?.[0]?.uid === deployment?.metadata.uid);
  // Earlier revisions without pods are its own as well.
  const running = owned.filter(({ spec }) => (spec as { replicas: number }).replicas > 0);
  const { paused = false } = (deployment?.spec ?? {}) as { paused?: boolean };
  const { replicas, updatedReplicas: updated } = statusOf(deployment);
  return { replicas, updated, paused, owned: running.map(({ metadata }) => metadata.name).join(', ') };
}

/** A Deployment as people wrote it. */
function formOf(deployment: KubernetesObject | undefined): unknown {
  const { labels, annotations = {} } = deployment?.metadata ?? { labels: {} };
  const { 'deployment.kubernetes.io/revision': _, ...written } = annotations;
  return { labels, annotations: written, spec: deployment?.spec };
}

async function names({ client, namespace }: AnyScene, kind: 'Deployment' | 'ReplicaSet'): Promise<string[]> {
  return (await client.list(kind, namespace)).objects.map(({ metadata }) => metadata.name);
}

async function controllers({ client, namespace }: AnyScene): Promise<string[]> {
  const { objects } = await client.list('ReplicaSet', namespace);
  return objects.flatMap(({ metadata }) => metadata.ownerReferences?.map(({ name }) => name) ?? []);
}

async function uids(
  { client, namespace }: AnyScene,
  kinds = ['Deployment', 'ReplicaSet', 'Pod'] as const as readonly Kind[],
) {
  const lists = await Promise.all(kinds.map((kind) => client.list(kind, namespace)));
  return lists.flatMap(({ objects }) => objects.map(({ metadata }) => metadata.uid)).sort();
}

type Kind = 'Deployment' | 'ReplicaSet' | 'Pod';

/** The versions of the pods behind the root Service, as a client without a mesh would meet them. */

type Asked = { verb: string; path: string; body: unknown };

/** A write that asks a ReplicaSet for so many pods; `hash`: the one of that version. */
function scales(replicas: number, hash = ''): (request: Asked) => boolean {
  return ({ verb, path, body }) =>
    verb === 'patch' &&
    path.includes('/replicasets/') &&
    path.endsWith(hash) &&
    (body as { spec?: { replicas?: number } }).spec?.replicas === replicas;
}

function deletesDeployment({ verb, path }: Asked): boolean {
  return verb === 'delete' && path.endsWith('/deployments/web');
}

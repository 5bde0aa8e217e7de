import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep, resumeDeployment, rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import type { DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import { newReplicaSetName } from '@cdaas/pipeline/deployment-state.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import type { InterceptedRequest, Verdict } from '@cdaas/sandbox/writes.ts';
import { approval, manifestText, service, weight } from '../support/deployment-files.ts';
import { type Kubectl, openKubectl, withoutKubectl } from '../support/kubectl.ts';
import { checkLaws } from '../support/laws.ts';
import type { Moment } from '../support/recorder.ts';
import type { Run } from '../support/run.ts';
import { asksForWeight, pins } from '../support/test-cluster.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/*
 * Others change what a run holds while it goes on: GitOps tools that apply the manifests as they were written, right after
 * every single write of a canary, and people who edit, scale and delete.
 */

let world: World;
before(async () => {
  world = await openWorld('gitops', { drainSeconds: 1 });
});
after(() => world.close());

type Matches = (request: InterceptedRequest) => boolean;

const writes =
  (verb: InterceptedRequest['verb'], path: RegExp): Matches =>
  (request) =>
    request.verb === verb && path.test(request.path);
const scales =
  (to: (replicas: number) => boolean): Matches =>
  ({ verb, path, body }) => {
    const replicas = (body as { spec?: { replicas?: number } } | undefined)?.spec?.replicas;
    return verb === 'patch' && path.includes('/replicasets/') && replicas !== undefined && to(replicas);
  };
/** The n-th request of those that match. */
const nth = (matches: Matches, n: number): Matches => {
  let count = 0;
  return (request) => {
    if (matches(request)) count += 1;
    else return false;
    return count === n;
  };
};

/** By state the write that brings a canary there: [10], [60]. */
const states: [state: string, write: () => Matches][] = [
  ['S2', () => pins('web', 1)],
  ['S3', () => writes('create', /\/services$/)],
  ['S4 created', () => writes('create', /\/replicasets$/)],
  ['S4 scaled', () => scales((replicas) => replicas > 0)],
  ['S6', () => writes('create', /\/trafficsplits$/)],
  ['S7 at 10', () => asksForWeight(10)],
  ['S7 at 60', () => asksForWeight(60)],
  ['F1', () => asksForWeight(100)],
  ['F2', () => pins('web', 2)],
  ['F3', () => nth(asksForWeight(0), 1)],
  ['F4', () => writes('delete', /\/trafficsplits\/web$/)],
  ['F5', () => writes('delete', /\/services\/web-canary$/)],
  ['F6 scaled', () => scales((replicas) => replicas === 0)],
  ['F6 deleted', () => writes('delete', /\/replicasets\//)],
];

const backwards: [state: string, write: () => Matches][] = [
  ['R1', () => asksForWeight(0)],
  ['R2', () => writes('delete', /\/trafficsplits\/web$/)],
  ['R3', () => writes('delete', /\/services\/web-canary$/)],
  ['R4', () => scales((replicas) => replicas === 0)],
];

type Tool = { name: string; dropsPin: boolean; args: string[] };
const tools: Tool[] = [
  { name: 'kubectl apply', dropsPin: false, args: ['apply'] },
  {
    name: 'kubectl apply --server-side --force-conflicts',
    dropsPin: true,
    args: ['apply', '--server-side', '--force-conflicts', '--field-manager=argocd-controller'],
  },
];

const pinOf = (moment: Moment, name = 'web') =>
  (moment.get('Service', name)?.spec as { selector: Record<string, string> } | undefined)?.selector[hashKey];

/** Runs a tool on the root Service as the user wrote it, right after a write was stored and before it is answered. */
function applyAfter(scene: Scene, kubectl: Kubectl, matches: Matches, tool: Tool): Promise<number> {
  const { metadata, ...rest } = service('web') as { metadata: object };
  const manifest = { ...rest, metadata: { ...metadata, namespace: scene.namespace } };
  const path = kubectl.file('service.yaml', manifestText([manifest]));
  const done = Promise.withResolvers<number>();
  // Told apart from what the control plane writes, as the tests' own client is.
  const own = `PATCH /api/v1/namespaces/${scene.namespace}/services/web`;
  const stop = scene.cluster.intercept(scene.namespace, async (request, phase): Promise<Verdict> => {
    if (phase !== 'after' || !matches(request)) return 'continue';
    stop();
    scene.client.inFlight.add(own);
    await kubectl.run(...tool.args, '-f', path).then(() => done.resolve(Date.now()), done.reject);
    scene.client.inFlight.delete(own);
    return 'continue';
  });
  return done.promise;
}

describe('GitOps that applies the root Service as written', { skip: withoutKubectl, concurrency: 2 }, () => {
  for (const tool of tools) {
    for (const [state, write] of [...states, ...backwards]) {
      const isBack = state.startsWith('R');
      it(`at ${state}, by ${tool.name}`, async (context) => {
        const scene = await world.scene();
        const kubectl = openKubectl(scene.cluster.sandbox.kubeconfig);
        try {
          await scene.first();
          const recorder = await scene.record();
          const applied = isBack ? null : applyAfter(scene, kubectl, write(), tool);
          const run = await scene.deploy({
            version: '2',
            steps: isBack ? [weight(60), approval()] : [weight(10), weight(60)],
          });
          let at = await applied;
          if (isBack) {
            await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
            const later = applyAfter(scene, kubectl, write(), tool);
            await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
            at = await later;
          }
          const wanted = await pinWanted(run, scene);
          await recorder.until('the pin', (moment) => pinOf(moment) === wanted);
          const healedMs = Date.now() - (at ?? 0);
          context.diagnostic(`${state} | ${tool.name} | ${tool.dropsPin ? `${healedMs} ms` : 'pin untouched'}`);
          assert.ok(healedMs < 5_000, `the pin was back after ${healedMs} ms`);
          const seen = await run.end();
          assert.equal(seen.status, isBack ? 'CANCELLED' : 'SUCCEEDED');
          const recording = await recorder.stop();
          const end = isBack ? 'rolledBack' : 'succeeded';
          const broken = checkLaws(recording, { replicas: 2, end, disturbed: true });
          // The tool leaves its own marks on the Service.
          const isOurs = (words: string) => !words.startsWith('end: Service web is');
          assert.deepEqual(broken.filter(isOurs), []);
          const root = await scene.client.get('Service', scene.namespace, 'web');
          assert.deepEqual(root && (root.spec as { selector: object }).selector, { app: 'web' });
          const told = seen.events.find(({ message }) =>
            message?.startsWith('Attention: Service web no longer selects'),
          );
          assert.equal(told !== undefined, tool.dropsPin, told?.message ?? 'nobody was told');
          if (tool.dropsPin) assert.match(told?.message ?? '', /changed by argocd-controller \(Apply at \d{4}-/);
        } finally {
          kubectl.close();
        }
      });
    }
  }
});

/** The pin that the root Service is to have now: of the old version until F2 is done, then of the new one. */
async function pinWanted(run: Run, scene: Scene): Promise<string | undefined> {
  const { state } = await run.now();
  const isTurned = state.noReturn || /^F2\./.test(state.at) || (state.effect?.key ?? '').startsWith('F2.');
  const old = state.survey?.workloads[0]?.old?.hash;
  if (!isTurned) return old;
  assert.ok(scene);
  return state.hashes[0];
}

/** A canary at 10 % that waits for approval. */
async function atTen(scene: Scene): Promise<{ run: Run; state: DeploymentState }> {
  await scene.first();
  const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
  const { state } = await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
  return { run, state };
}

describe('What others do to a canary at 10 %', { concurrency: 4 }, () => {
  type Edit = (scene: Scene, state: DeploymentState) => Promise<unknown>;
  type Spec = { selector?: Record<string, string>; replicas?: number; backends?: { weight: number }[] };
  const specOf = (moment: Moment, kind: 'Service' | 'TrafficSplit' | 'ReplicaSet', name: string) =>
    moment.get(kind, name)?.spec as Spec | undefined;
  const backends = (stable: number, canary: number) => [
    { service: 'web', weight: stable },
    { service: 'web-canary', weight: canary },
  ];
  const oldName = ({ survey }: DeploymentState) => survey?.workloads[0]?.old?.name ?? '';

  const healed: {
    title: string;
    edit: Edit;
    told: RegExp;
    isBack: (moment: Moment, state: DeploymentState) => boolean;
  }[] = [
    {
      title: 'the pin of the canary Service is taken out',
      edit: ({ client, namespace }) =>
        client.patch('Service', namespace, 'web-canary', { spec: { selector: { [hashKey]: null } } }),
      told: /Service web-canary no longer selects only the pods it is to, changed by kubectl \(Update at/,
      isBack: (moment, state) => pinOf(moment, 'web-canary') === state.hashes[0],
    },
    {
      title: 'the weights are changed',
      edit: ({ client, namespace }) =>
        client.patch('TrafficSplit', namespace, 'web', { spec: { backends: backends(50, 50) } }),
      told: /TrafficSplit web has 50\/50 instead of 90\/10, changed by kubectl/,
      isBack: (moment) => specOf(moment, 'TrafficSplit', 'web')?.backends?.[1]?.weight === 10,
    },
    {
      title: 'a backend is taken out of the split',
      edit: ({ client, namespace }) =>
        client.patch('TrafficSplit', namespace, 'web', { spec: { backends: backends(100, 0).slice(0, 1) } }),
      told: /TrafficSplit web has other backends instead of 90\/10/,
      isBack: (moment) => specOf(moment, 'TrafficSplit', 'web')?.backends?.[1]?.weight === 10,
    },
    {
      title: 'the old version is scaled down',
      edit: ({ client, namespace }, state) =>
        client.patch('ReplicaSet', namespace, oldName(state), { spec: { replicas: 1 } }),
      told: /ReplicaSet web-\w+ asks for 1 pods instead of 2, changed by kubectl/,
      isBack: (moment, state) => specOf(moment, 'ReplicaSet', oldName(state))?.replicas === 2,
    },
    {
      title: 'the new version is scaled down',
      edit: ({ client, namespace }, state) =>
        client.patch('ReplicaSet', namespace, newReplicaSetName(state, 0), { spec: { replicas: 1 } }),
      told: /ReplicaSet web-\w+ asks for 1 pods instead of 2/,
      isBack: (moment, state) => specOf(moment, 'ReplicaSet', newReplicaSetName(state, 0))?.replicas === 2,
    },
    {
      title: 'the label by which the root Service is watched is taken off',
      edit: ({ client, namespace }) =>
        client.patch('Service', namespace, 'web', { metadata: { labels: { 'cdaas/deployment': null } } }),
      told: /Service web was deleted or lost its label/,
      isBack: (moment) => moment.get('Service', 'web')?.metadata.labels?.['cdaas/deployment'] !== undefined,
    },
  ];

  for (const { title, edit, told, isBack } of healed) {
    it(`${title}: it is put back, and told`, async (context) => {
      const scene = await world.scene();
      const { run, state } = await atTen(scene);
      const recorder = await scene.record();
      await edit(scene, state);
      const at = Date.now();
      await recorder.until('the change', (moment) => !isBack(moment, state) || recorder.writes.length > 0);
      await recorder.until('what was', (moment) => isBack(moment, state) && recorder.writes.length > 0);
      context.diagnostic(`${title} | put back after ${Date.now() - at} ms`);
      const seen = await run.until('the news', ({ events }) => events.some(({ message }) => told.test(message ?? '')));
      assert.ok(seen.events.some(({ message }) => told.test(message ?? '')));
      await run.until(
        'the end of it',
        ({ state: { mending, disturbed } }) => mending === null && disturbed.length === 0,
      );
      assert.equal((await run.now()).status, 'AWAITING_APPROVAL');
      await rollBackDeployment(scene.tenant.ctx, { id: run.deploymentId });
      assert.equal((await run.end()).status, 'CANCELLED');
      await recorder.stop();
      assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
    });
  }

  const turned: { title: string; edit: Edit; error: RegExp }[] = [
    {
      title: 'the TrafficSplit is deleted',
      edit: ({ client, namespace }) => client.delete('TrafficSplit', namespace, 'web'),
      error: /TrafficSplit web was deleted by somebody/,
    },
    {
      title: 'the canary Service is deleted',
      edit: ({ client, namespace }) => client.delete('Service', namespace, 'web-canary'),
      error: /Service web-canary was deleted by somebody|has traffic but no ready pod/,
    },
    {
      title: 'the new ReplicaSet is deleted',
      edit: ({ client, namespace }, state) => client.delete('ReplicaSet', namespace, newReplicaSetName(state, 0)),
      error: /ReplicaSet web-\w+ was deleted by somebody|has traffic but no ready pod/,
    },
  ];
  for (const { title, edit, error } of turned) {
    it(`${title}: the deployment rolls back at once`, async () => {
      const scene = await world.scene();
      const { run, state } = await atTen(scene);
      await edit(scene, state);
      const seen = await run.end();
      assert.equal(seen.status, 'FAILED');
      assert.match(seen.state.error ?? '', error);
      assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
    });
  }

  it('the old ReplicaSet is deleted: weights freeze, and people may let the new version take over', async () => {
    const scene = await world.scene();
    const { run, state } = await atTen(scene);
    await scene.client.delete('ReplicaSet', scene.namespace, oldName(state));
    const frozen = await run.until('the freeze', ({ state: { frozen } }) => frozen.length > 0);
    assert.match(waitingFor(frozen.state) ?? '', /ReplicaSet web-\w+ was deleted: there is nothing to go back to/);
    await resumeDeployment(scene.tenant.ctx, { id: run.deploymentId });
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    assert.equal((await run.end()).status, 'SUCCEEDED');
    assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
  });

  it('the pin is fought over: after three times weights freeze, who does it is named, and people decide', async () => {
    const scene = await world.scene();
    const { run, state } = await atTen(scene);
    const recorder = await scene.record();
    const old = state.survey?.workloads[0]?.old?.hash;
    const { metadata: _, ...manifest } = service('web');
    const drop = () =>
      scene.client.apply('Service', scene.namespace, 'web', { ...manifest, metadata: { name: 'web' } });
    for (let time = 1; time <= 3; time += 1) {
      await drop();
      await run.until(`fight ${time}`, ({ state: { fights, mending } }) => fights.length === time && mending === null);
      await recorder.until('the pin', (moment) => pinOf(moment) === old);
    }
    await drop();
    const frozen = await run.until('the freeze', ({ state }) => state.frozen.length > 0);
    const words = waitingFor(frozen.state) ?? '';
    assert.match(words, /^people: Service web no longer selects .* changed by argocd-controller \(Apply at/);
    assert.match(words, /put back 3 times within a minute; no weight moves until somebody resumes/);
    await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
    await run.until('the wait of the weight', ({ state }) => state.at === 'S7.3.weight.0' && state.effect === null);
    assert.equal(recorder.writes.filter(({ path }) => path.includes('/trafficsplits/')).length, 0);
    await resumeDeployment(scene.tenant.ctx, { id: run.deploymentId });
    const seen = await run.end();
    assert.equal(seen.status, 'SUCCEEDED');
    await recorder.stop();
    assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
    await assert.rejects(resumeDeployment(scene.tenant.ctx, { id: run.deploymentId }), { code: 'deployment.final' });
  });

  it('nothing: no change is seen, and the canary sends what it sends without being watched', async () => {
    const scene = await world.scene();
    await scene.first();
    const recorder = await scene.record();
    const seen = await (await scene.deploy({ version: '2', steps: [weight(10), weight(60)] })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    assert.deepEqual(
      seen.events.filter(({ data }) => String(data.condition ?? data.key ?? '').match(/^(guard\.changed|mend)/)),
      [],
    );
    const { writes: sent } = await recorder.stop();
    assert.ok(sent.length <= 18, `${sent.length} writes`);
  });
});

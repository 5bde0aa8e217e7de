import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { rollBackDeployment } from '@cdaas/control-plane/deployments.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import type { InterceptedRequest, Verdict } from '@cdaas/sandbox/writes.ts';
import type { ClusterAddress } from '../support/cluster-client.ts';
import { approval, manifestText, service, weight } from '../support/deployment-files.ts';
import { type Kubectl, kubeconfigOf, openKubectl } from '../support/kubectl.ts';
import { checkLaws } from '../support/laws.ts';
import type { Moment } from '../support/recorder.ts';
import { type Run, tell } from '../support/run.ts';
import { type AnyCluster, asksForWeight, pins } from '../support/test-cluster.ts';
import { type AnyScene, openWorld, type Tenant, type World } from '../support/world.ts';
import type { ClusterName } from './place.ts';

/*
 * GitOps tools apply the root Service as it was written, right after every single write of a canary: it is pinned again
 * within a second. The same on the sandbox and on real Kubernetes.
 */

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
function applyAfter(scene: AnyScene, kubectl: Kubectl, matches: Matches, tool: Tool): Promise<number> {
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

/** A cluster, and where people reach it without anybody between. */
export type Reached = { where: AnyCluster; direct: ClusterAddress; close?(): Promise<void> };

export function runGitOps(
  cluster: ClusterName,
  open: (world: World) => Promise<Reached>,
  skip: string | false = false,
): void {
  describe(`${cluster} cluster: GitOps that applies the root Service as written`, { skip, concurrency: 3 }, () => {
    let world: World;
    let tenant: Tenant;
    let where: AnyCluster;
    let direct: ClusterAddress;
    let close: Reached['close'];
    const rows: string[] = [];
    before(async () => {
      world = await openWorld(`gitops-${cluster}`, { drainSeconds: 1 });
      ({ where, direct, close } = await open(world));
      tenant = await world.tenant('main');
    });
    after(async () => {
      await world?.close();
      await close?.();
      console.log([`| state (${cluster}) | applied by | pin back after |`, '|---|---|---|', ...rows].join('\n'));
    });

    for (const [turn, tool] of tools.entries()) {
      for (const [index, [state, write]] of [...states, ...backwards].entries()) {
        const order = index * tools.length + turn;
        const isBack = state.startsWith('R');
        it(`${cluster}: at ${state}, by ${tool.name}: ${tool.dropsPin ? 'the pin is back at once' : 'the pin stays'}`, async () => {
          const scene = await world.sceneOn(tenant, where);
          const kubectl = openKubectl(kubeconfigOf(direct));
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
            const wanted = await pinWanted(run);
            await recorder.until('the pin', (moment) => pinOf(moment) === wanted);
            const healedMs = Date.now() - (at ?? 0);
            rows[order] = `| ${state} | ${tool.name} | ${tool.dropsPin ? `${healedMs} ms` : 'the pin stays'} |`;
            assert.ok(healedMs < 5_000, `the pin was back after ${healedMs} ms`);
            const seen = await run.end();
            assert.equal(seen.status, isBack ? 'CANCELLED' : 'SUCCEEDED', tell(seen));
            const recording = await recorder.stop();
            const end = isBack ? 'rolledBack' : 'succeeded';
            const broken = checkLaws(recording, { replicas: 2, end, disturbed: true, interrupted: true });
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
}

/** The pin that the root Service is to have now: of the old version until F2 is done, then of the new one. */
async function pinWanted(run: Run): Promise<string | undefined> {
  const { state } = await run.now();
  const isTurned = state.noReturn || /^F2\./.test(state.at) || (state.effect?.key ?? '').startsWith('F2.');
  const old = state.survey?.workloads[0]?.old?.hash;
  if (!isTurned) return old;
  return state.hashes[0];
}

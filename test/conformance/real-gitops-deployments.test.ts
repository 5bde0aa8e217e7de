import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { manifestText, weight, workload } from '../support/deployment-files.ts';
import { checkLaws } from '../support/laws.ts';
import { type RealCluster, useRealCluster, withoutRealCluster } from '../support/real-cluster.ts';
import { openRealCluster } from '../support/real-test-cluster.ts';
import { momentsOf, type Recording } from '../support/recorder.ts';
import { tell } from '../support/run.ts';
import { type AnyCluster, asksForWeight, holdWrite, type Intercepting, pins } from '../support/test-cluster.ts';
import { until } from '../support/until.ts';
import { openWorld, type Tenant, type World } from '../support/world.ts';

/*
 * The original manifest of a Deployment applied at every state of a canary, as kubectl and as GitOps tools do it: until
 * the last write its pods get no traffic, the status names who applied it, and once it is deleted the canary ends as ever.
 */

type Asked = Parameters<Intercepting>[0];

const to = (verb: string, path: RegExp) => (request: Asked) => request.verb === verb && path.test(request.path);
const scales = (replicas: number) => (request: Asked) =>
  to('patch', /\/replicasets\//)(request) &&
  (request.body as { spec?: { replicas?: number } }).spec?.replicas === replicas;
const unpins = (request: Asked) => {
  const { spec } = (request.body ?? {}) as { spec?: { selector?: Record<string, unknown> } };
  return to('patch', /\/services\/web$/)(request) && Object.values(spec?.selector ?? {}).includes(null);
};

/** The state that a run has reached, and the write that is on its way to the cluster then. */
const states: [string, () => (request: Asked) => boolean][] = [
  ['S2', () => to('create', /\/services$/)],
  ['S3', () => to('create', /\/replicasets$/)],
  ['S4', () => scales(2)],
  ['S5', () => to('create', /\/trafficsplits$/)],
  ['S6', () => asksForWeight(10)],
  ['S7 at 10 %', () => asksForWeight(60)],
  ['S7 at 60 %', () => asksForWeight(100)],
  ['F1', () => pins('web', 2)],
  ['F2', () => asksForWeight(0)],
  ['F3', () => to('delete', /\/trafficsplits\//)],
  ['F4', () => to('delete', /\/services\//)],
  ['F5', () => scales(0)],
  ['F6', () => unpins],
];
const tools = {
  'kubectl apply': [],
  'kubectl apply --server-side': ['--server-side', '--force-conflicts', '--field-manager=argocd-controller'],
} as const;
const managers: Record<keyof typeof tools, string> = {
  'kubectl apply': 'kubectl-client-side-apply',
  'kubectl apply --server-side': 'argocd-controller',
};

const kubectlIsThere = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0;
const run = promisify(execFile);

describe('a Deployment that is applied in the middle of a canary', {
  skip: withoutRealCluster || (kubectlIsThere ? false : 'kubectl is not installed'),
  concurrency: 3,
}, () => {
  let world: World;
  let tenant: Tenant;
  let where: AnyCluster;
  let cluster: RealCluster;
  let folder: string;
  const table: string[] = [];
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'cdaas-gitops-'));
    world = await openWorld('gitops-deployments');
    cluster = await useRealCluster();
    where = await openRealCluster();
    tenant = await world.tenant('main');
  });
  after(async () => {
    await world?.close();
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
    const head = '| state | applied by | held at | the status says | traffic to its pods | end once it is deleted |';
    console.log([head, '|---|---|---|---|---|---|', ...table].join('\n'));
  });

  for (const [index, [state, matches]] of states.entries()) {
    for (const tool of Object.keys(tools) as (keyof typeof tools)[]) {
      it(`at ${state} by ${tool} is named, and holds the run until it is gone`, {
        timeout: 90_000,
      }, async () => {
        const here = await world.sceneOn(tenant, where);
        const { namespace, client } = here;
        await here.first();
        const recorder = await here.record();
        const held = holdWrite(here, matches());
        const deployed = await here.deploy({ version: '2', steps: [weight(10), weight(60)] });
        await held.reached;
        const file = join(folder, `${namespace}.yaml`);
        writeFileSync(file, manifestText([workload({ version: '2' })]));
        const kubectl = (...args: string[]) =>
          run('kubectl', ['--kubeconfig', cluster.kubeconfigFile, '-n', namespace, ...args]);
        await kubectl('apply', '-f', file, ...tools[tool]);
        const isReady = async () =>
          (await client.get('Deployment', namespace, 'web'))?.status as { availableReplicas?: number } | undefined;
        await until(async () => (await isReady())?.availableReplicas === 2, 'its pods');
        await deployed.until('the news', ({ events }) =>
          events.some(({ data }) => data.condition === 'guard.deployment.0'),
        );
        held.release();
        // The write that sets root free is on its way at F6: from then on the user's selector counts.
        const isFree = state === 'F6';
        const isHeld = isFree ? /^end$/ : /^(S7\.\d\.weight|F1\.weight|F2\.pin|F7\.unpin)/;
        const seen = await deployed.until(
          'the hold',
          ({ state: now }) => isHeld.test(now.at) && now.effect === null,
          60_000,
        );
        const words = waitingFor(seen.state) ?? '';
        assert.match(words, new RegExp(`made by ${managers[tool]}\\); remove it: kubectl delete deployment web -n`));
        await kubectl('delete', 'deployment', 'web');
        const ended = await deployed.end(60_000);
        const recording = await recorder.stop();
        assert.equal(ended.status, 'SUCCEEDED', tell(ended));
        const strangers = mostToStrangers(recording);
        assert.ok(isFree ? strangers <= 50 : strangers === 0, `${strangers} % of requests went to its pods`);
        // Its pods stand behind no Service, so that the laws see a canary like any other.
        const expected = { replicas: 2, end: 'succeeded', interrupted: true, disturbed: isFree } as const;
        assert.deepEqual(checkLaws(withoutStrangers(recording), expected), []);
        const told = words.replaceAll(namespace, 'shop').replace(/;[^;]*$/, '');
        const row = [state, tool, seen.state.at, told, `${strangers} %`, ended.status];
        table[index * 2 + Object.keys(tools).indexOf(tool)] = `| ${row.join(' | ')} |`;
      });
    }
  }
});

/** The largest share of requests, in percent, that pods of the Deployment got at any moment. */
function mostToStrangers(recording: Recording): number {
  let most = 0;
  for (const { moment } of momentsOf(recording)) {
    most = Math.max(most, moment.shares('web').none ?? 0, moment.plainShares('web').none ?? 0);
  }
  return most * 100;
}

function withoutStrangers(recording: Recording): Recording {
  const isStranger = ({ metadata }: Recording['changes'][number]['object']) =>
    metadata.labels?.['pod-template-hash'] !== undefined;
  return { ...recording, changes: recording.changes.filter(({ object }) => !isStranger(object)) };
}

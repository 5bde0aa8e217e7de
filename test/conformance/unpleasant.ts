import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { approveStep } from '@cdaas/control-plane/deployments.ts';
import { waitingFor } from '@cdaas/pipeline/narrate.ts';
import { type Credential, makeCredential, type Rule } from '../support/cluster-credentials.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { checkLaws, weightsWritten } from '../support/laws.ts';
import type { Recorder } from '../support/recorder.ts';
import { type Run, type Seen, tell } from '../support/run.ts';
import { type AnyCluster, holdWrite, pins } from '../support/test-cluster.ts';
import { until } from '../support/until.ts';
import { type AnyScene, openWorld, type Tenant, type World } from '../support/world.ts';
import type { ClusterName } from './place.ts';

/**
 * What a cluster does by itself to those who deploy to it, said in its own words: rights that are taken away, quotas,
 * namespaces that go. The same on the sandbox and on real Kubernetes (test/engine/unpleasant-cases.ts plays more of it).
 */
export function runUnpleasant(
  cluster: ClusterName,
  open: (world: World) => Promise<AnyCluster>,
  skip: string | false = false,
  more: (title: (words: string) => string, at: () => Unpleasant) => void = () => {},
): void {
  describe(`${cluster} cluster: what it does by itself`, { skip, concurrency: 4 }, () => {
    let at: Unpleasant;
    const credentials: Credential[] = [];
    before(async () => {
      const world = await openWorld(`unpleasant-${cluster}`);
      at = { world, where: await open(world), tenant: await world.tenant('unpleasant') };
    });
    after(async () => {
      for (const credential of credentials) await credential.remove();
      await at?.world.close();
    });
    const title = (words: string) => `${cluster}: ${words}`;

    for (const [what, rules, words] of [
      [
        'to patch TrafficSplits',
        withoutSplits,
        /the credential may not patch trafficsplits\.split\.smi-spec\.io web in/,
      ],
      ['to do anything', [], /the credential may not /],
    ] as const) {
      it(
        title(`a credential that loses the right ${what} at 10 % holds, and goes on when it has it again`),
        async () => {
          const { world, tenant, where } = at;
          const credential = await makeCredential(where.address, { rules: all });
          credentials.push(credential);
          const address = { ...where.address, token: credential.token };
          const here = await world.sceneOn(tenant, { ...where, address, close: async () => {} });
          const { run, recorder } = await raisedTo10(here);
          await credential.allow([...rules]);
          await approve(here, run);
          await untilHeld(run, words);
          await credential.allow(all);
          await succeeds(run, recorder);
        },
      );
    }

    for (const [counted, collection, words] of [
      ['count/services', '/api/v1/namespaces/NS/services', /exceeded quota: q, requested: count\/services=1/],
      [
        'count/replicasets.apps',
        '/apis/apps/v1/namespaces/NS/replicasets',
        /exceeded quota: q, requested: count\/replicasets\.apps=1/,
      ],
    ] as const) {
      it(title(`no quota is left for ${counted} when a deployment starts: it fails and is rolled back`), async () => {
        const here = await at.world.sceneOn(at.tenant, at.where);
        await here.first();
        await limit(here, counted, 1, collection.replace('NS', here.namespace));
        const recorder = await here.record();
        await fails(here, await here.deploy({ version: '2', steps }), words, recorder);
      });
    }

    it(title('no quota is left for the pods of the new version: it fails and is rolled back'), async () => {
      const here = await at.world.sceneOn(at.tenant, at.where);
      await here.first();
      await at.world.shorten(here.namespace, { readyTimeoutSeconds: 2 });
      await limit(here, 'pods', 2, `/api/v1/namespaces/${here.namespace}/pods`);
      const recorder = await here.record();
      await fails(here, await here.deploy({ version: '2', steps }), /0 of 2 pods.*exceeded quota: q/, recorder);
    });

    it(title('a namespace on its way out when a deployment starts: it fails, and says so'), async (context) => {
      const here = await at.world.sceneOn(at.tenant, at.where);
      await terminate(here, context);
      const seen = await (await here.deploy({ version: '1' })).end(60_000);
      assert.equal(seen.status, 'FAILED', tell(seen));
      assert.match(seen.state.error ?? '', /because it is being terminated/, tell(seen));
    });

    it(title('a namespace that is deleted at 10 %: the run ends, and says what is gone'), async (context) => {
      const here = await at.world.sceneOn(at.tenant, at.where);
      const { run, recorder } = await raisedTo10(here);
      await terminate(here, context);
      const seen = await run.end(60_000);
      assert.equal(seen.status, 'FAILED', tell(seen));
      assert.match(seen.state.error ?? '', /is gone|was deleted by somebody|no ready pod|being terminated/, tell(seen));
      await recorder.stop();
    });

    it(
      title('a namespace that is deleted at the point of no return: the run ends, and says what is gone'),
      async (context) => {
        const here = await at.world.sceneOn(at.tenant, at.where);
        await here.first();
        const held = holdWrite(here, pins('web', 2), 'after');
        const run = await here.deploy({ version: '2', steps: [weight(10)] });
        await held.reached;
        await terminate(here, context);
        const kinds = ['Service', 'ReplicaSet', 'Pod'] as const;
        await until(async () => {
          const left = await Promise.all(kinds.map((kind) => here.client.list(kind, here.namespace)));
          return left.every(({ objects }) => objects.length === 0);
        }, 'everything in the namespace to be gone');
        held.release();
        // Whichever of them is missed first: a root Service could be made again, the new version cannot.
        const seen = await run.end(60_000);
        assert.equal(seen.status, 'FAILED', tell(seen));
        assert.match(seen.state.error ?? '', /the new version is gone/, tell(seen));
      },
    );

    more(title, () => at);
  });
}

export type Unpleasant = { world: World; where: AnyCluster; tenant: Tenant };

export const steps = [weight(10), approval(), weight(60)];
export const weights = ['100/0', '90/10', '40/60', '0/100', '100/0'];
const all: Rule[] = [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }];
const reading = ['get', 'list', 'watch', 'create', 'update', 'delete'];
const withoutSplits: Rule[] = [
  { apiGroups: ['*'], resources: ['*'], verbs: reading },
  { apiGroups: ['', 'apps', 'events.k8s.io'], resources: ['*'], verbs: ['patch'] },
];

export const approve = ({ tenant }: AnyScene, { deploymentId }: Run) =>
  approveStep(tenant.ctx, { id: deploymentId, ref: 'canary-step-2' });

/** A canary that waits for a person at 10 %. */
export async function raisedTo10(here: AnyScene): Promise<{ run: Run; recorder: Recorder }> {
  await here.first();
  const recorder = await here.record();
  const run = await here.deploy({ version: '2', steps });
  await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL', 60_000);
  return { run, recorder };
}

/** Waits until the run says that it holds for this reason, and that it did not turn back. */
export async function untilHeld(run: Run, words: RegExp): Promise<Seen> {
  const isSo = ({ state }: Seen) => words.test(waitingFor(state) ?? '') || state.completedAt !== null;
  const seen = await run.until(`to hold: ${words}`, isSo, 60_000);
  assert.match(waitingFor(seen.state) ?? '', words, tell(seen));
  const since = /\(since 20\d\d-\S+Z, next try 20\d\d-\S+Z\)|cannot be seen since 20\d\d-\S+Z: /;
  assert.match(waitingFor(seen.state) ?? '', since);
  assert.equal(seen.state.rollBack, null, tell(seen));
  return seen;
}

export async function succeeds(run: Run, recorder: Recorder): Promise<void> {
  const seen = await run.end(60_000);
  const recording = await recorder.stop();
  assert.equal(seen.status, 'SUCCEEDED', tell(seen));
  assert.deepEqual(weightsWritten(recording), weights);
  assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'succeeded', interrupted: true }), []);
}

/** The run ends FAILED for this reason, and what led to the old pods does so still. */
export async function fails(here: AnyScene, run: Run, words: RegExp, recorder: Recorder): Promise<void> {
  const seen = await run.end(60_000);
  assert.equal(seen.status, 'FAILED', tell(seen));
  assert.match(seen.state.error ?? '', words, tell(seen));
  const recording = await recorder.stop();
  assert.deepEqual(checkLaws(recording, { replicas: 2, end: 'rolledBack', interrupted: true }), []);
  const sets = (await here.client.list('ReplicaSet', here.namespace)).objects;
  assert.equal(sets.length, 1, 'only the old version is left');
  const root = await here.client.get('Service', here.namespace, 'web');
  assert.deepEqual(root?.spec && (root.spec as { selector: unknown }).selector, { app: 'web' });
}

/** Sets a quota, and waits until it is in force. */
async function limit({ client, namespace }: AnyScene, counted: string, hard: number, collection: string) {
  const quota = {
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    metadata: { name: 'q' },
    spec: { hard: { [counted]: `${hard}` } },
  };
  await client.send('POST', `/api/v1/namespaces/${namespace}/resourcequotas`, quota);
  const spec = collection.endsWith('/services')
    ? { ports: [{ port: 80 }] }
    : collection.endsWith('/pods')
      ? { containers: [{ name: 'probe', image: 'probe:1' }] }
      : {
          selector: { matchLabels: { probe: 'yes' } },
          template: {
            metadata: { labels: { probe: 'yes' } },
            spec: { containers: [{ name: 'probe', image: 'probe:1' }] },
          },
        };
  await until(async () => {
    const { body } = await client.send('POST', `${collection}?dryRun=All`, { metadata: { name: 'probe' }, spec });
    return String(body.message).includes('exceeded quota: q');
  }, `the quota of ${counted}`);
}

/** Deletes the namespace and keeps it on its way out until the returned function is called. */
async function terminate({ client, namespace }: AnyScene, context: TestContext): Promise<void> {
  const finalizers = ['test.cdaas/held'];
  await client.create('ConfigMap', namespace, { metadata: { name: 'held', finalizers } });
  context.after(() => client.patch('ConfigMap', namespace, 'held', { metadata: { finalizers: null } }));
  await client.delete('Namespace', '', namespace);
}

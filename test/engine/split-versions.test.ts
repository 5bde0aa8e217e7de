import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { approveStep } from '@cdaas/control-plane/deployments.ts';
import { approval, weight } from '../support/deployment-files.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('split-versions');
});
after(() => world.close());

type Schema = Record<string, unknown>;
const number: Schema = { type: 'number' };

/** As SMI's own definitions: v1alpha3 and v1alpha4 add `matches`, and what a weight is differs. */
function version(name: string, served: boolean, storage: boolean, weightSchema: Schema) {
  const backend = {
    type: 'object',
    required: ['service', 'weight'],
    properties: { service: { type: 'string' }, weight: weightSchema },
  };
  const matches = { type: 'array', items: { type: 'object', properties: { kind: { type: 'string' } } } };
  const properties = { service: { type: 'string' }, backends: { type: 'array', items: backend }, matches };
  const spec = { type: 'object', required: ['service', 'backends'], properties };
  return { name, served, storage, schema: { openAPIV3Schema: { type: 'object', properties: { spec } } } };
}

type Case = { served: [name: string, weight: Schema][]; used: string; weights: unknown[] };

const cases: Case[] = [
  {
    served: [
      ['v1alpha1', { 'x-kubernetes-int-or-string': true }],
      ['v1alpha2', number],
      ['v1alpha4', number],
    ],
    used: 'v1alpha2',
    weights: [90, 10],
  },
  { served: [['v1alpha1', { 'x-kubernetes-int-or-string': true }]], used: 'v1alpha1', weights: [90, 10] },
  { served: [['v1alpha1', { type: 'string' }]], used: 'v1alpha1', weights: ['90', '10'] },
  {
    served: [
      ['v1alpha3', number],
      ['v1alpha4', number],
    ],
    used: 'v1alpha4',
    weights: [90, 10],
  },
  { served: [['v1alpha3', number]], used: 'v1alpha3', weights: [90, 10] },
];

describe('A canary on a cluster that serves TrafficSplits as', { concurrency: 5 }, () => {
  for (const { served, used, weights } of cases) {
    const words = served.map(([name, schema]) => `${name} (weight ${schema.type ?? 'integer or string'})`).join(', ');
    it(`${words} writes ${used}, weights as ${typeof weights[0]}s`, async () => {
      const scene = await world.scene({ cluster: await world.cluster() });
      const { client, namespace } = scene;
      const name = 'trafficsplits.split.smi-spec.io';
      // The last of them is the storage version, as in SMI's own definitions.
      const versions = served.map(([one, schema], index) => version(one, true, index === served.length - 1, schema));
      await client.patch('CustomResourceDefinition', '', name, { spec: { versions } });
      await scene.first();
      const path = `/apis/split.smi-spec.io/${used}/namespaces/${namespace}/trafficsplits/web`;
      const asked = new Set<string>();
      scene.cluster.intercept(namespace, (request) => {
        if (request.path.includes('/trafficsplits')) asked.add(request.path.split('/')[3] ?? '');
        return 'continue';
      });
      const run = await scene.deploy({ version: '2', steps: [weight(10), approval(), weight(60)] });
      await run.until('the approval', ({ status }) => status === 'AWAITING_APPROVAL');
      const { spec } = (await client.send('GET', path)).body as { spec: { backends: { weight: unknown }[] } };
      assert.deepEqual(
        spec.backends.map((backend) => backend.weight),
        weights,
      );
      const { answers, failed } = scene.send(400);
      assert.equal(failed, 0);
      assert.ok((answers['2'] ?? 0) > 10 && (answers['2'] ?? 0) < 90, `${answers['2']} of 400 at 10 %`);
      await approveStep(scene.tenant.ctx, { id: run.deploymentId, ref: 'canary-step-2' });
      const seen = await run.end();
      assert.equal(seen.status, 'SUCCEEDED');
      assert.equal((await client.send('GET', path)).status, 404);
      assert.deepEqual([...asked], [used]);
      assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
    });
  }
});

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { text } from '@cdaas/contract/text.ts';
import { service } from '../support/deployment-files.ts';
import type { Seen } from '../support/run.ts';
import { asksForWeight } from '../support/test-cluster.ts';
import { openWorld, type World } from '../support/world.ts';

let world: World;
before(async () => {
  world = await openWorld('unstorable');
});
after(() => world.close());

const emojis = '😀'.repeat(400);
const wild = `x\ud83d y\0z \udc00${emojis}\ud83d`;

function assertStored({ events, state }: Seen): void {
  const isSound = text(1_000_000);
  for (const value of [
    ...events.flatMap(({ message, data }) => [message ?? '', JSON.stringify(data)]),
    state.error ?? '',
  ])
    assert.ok(isSound.safeParse(value).success, value);
}

/** A cluster writes what it likes into its answers. */
describe('Text that cannot be stored', () => {
  it('in the words of a refused write rolls back with readable words', async () => {
    const scene = await world.scene();
    await scene.first();
    scene.cluster.intercept(scene.namespace, (request, phase) =>
      phase === 'before' && asksForWeight(50)(request)
        ? { code: 422, reason: 'Invalid', message: `no: ${wild}` }
        : 'continue',
    );
    const seen = await (await scene.deploy({ version: '2', steps: [{ setWeight: { weight: 50 } }] })).end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /no: x +y +z +😀😀/);
    assertStored(seen);
  });

  it('in labels, annotations and messages of objects stops nothing', async () => {
    const scene = await world.scene();
    const { client, namespace } = scene;
    await scene.first();
    const root = await client.get('Service', namespace, 'web');
    assert.ok(root);
    const merge = 'application/merge-patch+json';
    const path = `/api/v1/namespaces/${namespace}/services/web`;
    const annotations = { note: wild, emojis };
    assert.equal((await client.send('PATCH', path, { metadata: { annotations } }, merge)).status, 200);
    await client.create('Service', namespace, { ...service('other'), metadata: { name: 'other', annotations } });
    const seen = await (await scene.deploy({ version: '2', steps: [{ setWeight: { weight: 50 } }] })).end();
    assert.equal(seen.status, 'SUCCEEDED');
    assertStored(seen);
  });

  it('in what pods report is told in readable words', async () => {
    const scene = await world.scene();
    const { client, namespace } = scene;
    await world.shorten(namespace, { readyTimeoutSeconds: 2 });
    await scene.first();
    const run = await scene.deploy({ version: '2-never-ready' });
    await run.until('the wait for pods', ({ events }) => events.some(({ data }) => data.condition === 'S5.wait.0'));
    const { objects } = await client.list('Pod', namespace);
    for (const pod of objects.filter(({ spec }) => JSON.stringify(spec).includes('never-ready'))) {
      const state = { waiting: { reason: wild, message: wild } };
      const containerStatuses = [{ name: 'web', ready: false, restartCount: 0, image: '', imageID: '', state }];
      const path = `/api/v1/namespaces/${namespace}/pods/${pod.metadata.name}/status`;
      const merge = 'application/merge-patch+json';
      assert.equal((await client.send('PATCH', path, { status: { containerStatuses } }, merge)).status, 200);
    }
    const seen = await run.end();
    assert.equal(seen.status, 'FAILED');
    assert.match(seen.state.error ?? '', /not ready within 2 s/);
    assertStored(seen);
  });
});

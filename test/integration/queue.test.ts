import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { newId } from '@cdaas/control-plane/ids.ts';
import { openQueue, type WakeQueue } from '@cdaas/control-plane/queue.ts';
import { cloneDatabase } from '../support/database.ts';
import { withAdmin } from '../support/postgres.ts';

// The same cases on both backends. `npm test` sets REDIS_URL where it could start a Redis, and says so where it could not.
const redisUrl = process.env.REDIS_URL;
const backends = [{ name: 'Postgres', redisUrl: undefined }, ...(redisUrl ? [{ name: 'Redis', redisUrl }] : [])];

type Wake = { kind: 'deployment' | 'pipeline'; id: string };

/** Collects what a consumer is handed, and waits for the n-th. */
function collector(handle: (wake: Wake) => Promise<void> = async () => {}) {
  const seen: Wake[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  return {
    seen,
    handler: async (wake: Wake) => {
      seen.push(wake);
      for (const { count, resolve } of waiting) if (seen.length >= count) resolve();
      await handle(wake);
    },
    until: (count: number) =>
      new Promise<void>((resolve) => (seen.length >= count ? resolve() : waiting.push({ count, resolve }))),
  };
}

for (const backend of backends) {
  describe(`wake-ups on ${backend.name}`, () => {
    let clone: Awaited<ReturnType<typeof cloneDatabase>>;
    const queues: WakeQueue[] = [];
    const errors: Error[] = [];

    const open = async (role: 'cdaas_api' | 'cdaas_worker', onError = (error: Error) => void errors.push(error)) => {
      const queue = await openQueue({ redisUrl: backend.redisUrl, databaseUrl: clone.url, role, onError });
      queues.push(queue);
      return queue;
    };

    before(async () => {
      clone = await cloneDatabase(`queue_${backend.name}`);
    });

    after(async () => {
      for (const queue of queues) await queue.close();
      assert.deepEqual(errors, []);
      await clone.drop();
    });

    it('reach any worker, or the one they are addressed to', async () => {
      const api = await open('cdaas_api');
      const [one, two] = [collector(), collector()];
      const [first, second] = [randomInt(1, 2 ** 31), randomInt(1, 2 ** 31)];
      await (await open('cdaas_worker')).consume(first, one.handler);
      await (await open('cdaas_worker')).consume(second, two.handler);
      const id = newId(new Date());
      await api.enqueueWake('deployment', id, second);
      await two.until(1);
      assert.deepEqual([one.seen, two.seen], [[], [{ kind: 'deployment', id }]]);

      const ids = Array.from({ length: 20 }, () => newId(new Date()));
      await Promise.all(ids.map((each) => api.enqueueWake('pipeline', each)));
      while (one.seen.length + two.seen.length < 21)
        await Promise.race([one.until(one.seen.length + 1), two.until(two.seen.length + 1)]);
      const common = [...one.seen, ...two.seen.slice(1)].map((wake) => wake.id);
      assert.deepEqual(common.sort(), [...ids].sort());
    });

    it('come again for the same row, also while the first is handled', async () => {
      const gate = Promise.withResolvers<void>();
      const own = collector(() => gate.promise);
      const worker = randomInt(1, 2 ** 31);
      const queue = await open('cdaas_worker');
      await queue.consume(worker, own.handler);
      const id = newId(new Date());
      await queue.enqueueWake('deployment', id, worker);
      await own.until(1);
      await queue.enqueueWake('deployment', id, worker);
      await own.until(2);
      gate.resolve();
    });

    it('are not tried again when the handler fails: the sweep is there for that', async () => {
      const failures: Error[] = [];
      const own = collector(async ({ id }) => {
        if (own.seen.length === 1) throw new Error(`no luck with ${id}`);
      });
      const worker = randomInt(1, 2 ** 31);
      const queue = await open('cdaas_worker', (error) => void failures.push(error));
      await queue.consume(worker, own.handler);
      const [bad, good] = [newId(new Date()), newId(new Date())];
      await queue.enqueueWake('deployment', bad, worker);
      await own.until(1);
      await queue.enqueueWake('deployment', good, worker);
      await own.until(2);
      await queue.close();
      assert.deepEqual(
        own.seen.map(({ id }) => id),
        [bad, good],
      );
      assert.deepEqual(
        failures.map(({ message }) => message),
        [`no luck with ${bad}`],
      );
    });

    it('to a closed queue go nowhere, and closing waits for what is being handled', async () => {
      const gate = Promise.withResolvers<void>();
      let handled = false;
      const own = collector(async () => {
        await gate.promise;
        handled = true;
      });
      const worker = randomInt(1, 2 ** 31);
      const queue = await open('cdaas_worker');
      await queue.consume(worker, own.handler);
      await queue.enqueueWake('deployment', newId(new Date()), worker);
      await own.until(1);
      const closing = queue.close();
      gate.resolve();
      await closing;
      assert.equal(handled, true);
      await queue.enqueueWake('deployment', newId(new Date()), worker);
      assert.equal(own.seen.length, 1);
    });

    it('to a worker go through a queue that is closed while nobody wakes it, and opened again', async () => {
      const own = collector();
      const worker = randomInt(1, 2 ** 31);
      const options = {
        redisUrl: backend.redisUrl,
        databaseUrl: clone.url,
        onError: (e: Error) => void errors.push(e),
      };
      const api = await openQueue({ ...options, role: 'cdaas_api', idleMs: 1 });
      queues.push(api);
      await (await open('cdaas_worker')).consume(worker, own.handler);
      for (let count = 1; count <= 20; count += 1) {
        await api.enqueueWake('deployment', newId(new Date()), worker);
        await own.until(count);
      }
    });

    it('for workers that are gone are removed with their queues, those for others stay', async () => {
      const queue = await open('cdaas_worker');
      const [gone, late] = [randomInt(1, 2 ** 31), randomInt(1, 2 ** 31)];
      const own = collector();
      for (const worker of [gone, late]) await queue.enqueueWake('deployment', newId(new Date()), worker);
      await queue.removeAbandoned(async () => new Set([late]));
      // What is still there reaches a worker that comes to serve it.
      await queue.consume(late, own.handler);
      await own.until(1);
      const again = collector();
      const reborn = await open('cdaas_worker');
      await reborn.consume(gone, again.handler);
      const id = newId(new Date());
      await queue.enqueueWake('deployment', id, gone);
      await again.until(1);
      assert.deepEqual(again.seen, [{ kind: 'deployment', id }]);
    });

    if (backend.redisUrl) return;
    it('leave nothing behind', async () => {
      for (const queue of queues) await queue.close();
      const { rows } = await withAdmin(clone.url, (admin) =>
        admin.query<{ left: number }>('select count(*)::int as left from bullmq.job'),
      );
      assert.equal(rows[0]?.left, 0);
    });
  });
}

describe('a queue that is away', () => {
  it('costs the sender a second at most and no error', async () => {
    const clone = await cloneDatabase('queue_away');
    const errors: Error[] = [];
    const queue = await openQueue({
      redisUrl: 'redis://127.0.0.1:1',
      databaseUrl: clone.url,
      role: 'cdaas_api',
      onError: (error) => errors.push(error),
    });
    const began = performance.now();
    await queue.enqueueWake('deployment', newId(new Date()));
    assert.ok(performance.now() - began < 3_000);
    assert.ok(errors.length > 0);
    await queue.close();
    await clone.drop();
  });
});

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { json } from '../support/fake-api-server.ts';
import { useFakeCluster } from '../support/fake-cluster.ts';
import { answered, unreachable } from '../support/kube-outcomes.ts';

const path = '/api/v1/namespaces';

const fake = useFakeCluster();
const { clientOf } = fake;

describe('a cluster that does not answer', () => {
  test('is left alone after five failures, probed with GET /version, and used again', async () => {
    const time = { now: Date.now() };
    let healthy = false;
    fake.server.answer((_request, response) => {
      if (healthy) json(response, 200, {});
      else response.socket?.destroy();
    });
    const client = clientOf({ now: () => time.now });
    const write = { method: 'PATCH', path, body: {} } as const;
    for (let n = 0; n < 5; n += 1) unreachable(await client.request(write), 'reset', true);
    time.now += 700;
    const refused = await client.request(write);
    assert.match(
      unreachable(refused, 'breaker.open', false),
      /does not answer \(the connection to the cluster was lost\); asking it again in 1 s/,
    );
    assert.equal(fake.server.seen.length, 5);

    time.now += 1000;
    unreachable(await client.request(write), 'reset', false);
    assert.deepEqual(fake.server.seen.slice(5), ['GET /version'], 'a write must not be the probe');
    unreachable(await client.request(write), 'breaker.open', false);

    healthy = true;
    time.now += 5000;
    answered(await client.request(write), 200);
    assert.deepEqual(fake.server.seen.slice(6), ['GET /version', `PATCH ${path}`]);
  });

  test('counts as back when it does what it is asked, not when it says its version', async () => {
    const time = { now: Date.now() };
    let told = 0;
    let does: 'nothing' | 'says so' | 'works' = 'nothing';
    fake.server.answer(({ url }, response) => {
      if (url === '/version' || does === 'works') json(response, 200, {});
      else if (does === 'says so') json(response, 500, { message: 'etcdserver: request timed out' });
      else response.socket?.destroy();
    });
    const client = clientOf({ now: () => time.now, onAnswersAgain: () => (told += 1) });
    const write = { method: 'PATCH', path, body: {} } as const;
    for (let n = 0; n < 5; n += 1) unreachable(await client.request(write), 'reset', true);
    for (const seconds of [1, 2, 4, 8]) {
      time.now += 1250 * seconds;
      unreachable(await client.request(write), 'reset', true);
      time.now += 750 * seconds;
      unreachable(await client.request(write), 'breaker.open', false);
    }
    time.now += 12_000;
    does = 'says so';
    answered(await client.request(write), 500);
    assert.equal(told, 0);
    does = 'works';
    answered(await client.request(write), 200);
    answered(await client.request(write), 200);
    assert.equal(told, 1);
  });

  test('counts once for a GET that is sent twice, and not at all for one that nobody waits for', async () => {
    fake.server.answer((_request, response) => void response.socket?.destroy());
    const once = clientOf({ limits: { breakerThreshold: 2 } });
    unreachable(await once.request({ method: 'GET', path }), 'reset', true);
    unreachable(await once.request({ method: 'GET', path }), 'reset', true);
    unreachable(await once.request({ method: 'GET', path }), 'breaker.open', false);
    const never = clientOf({ limits: { breakerThreshold: 1 } });
    for (let n = 0; n < 3; n += 1) {
      unreachable(await never.request({ method: 'GET', path, bestEffort: true }), 'reset', true);
    }
    assert.equal(fake.server.seen.length, 2 * 2 + 3 * 2);
  });

  test('counts as back when it answers the first request with another credential', async () => {
    let told = 0;
    const client = clientOf({ onAnswersAgain: () => (told += 1) });
    answered(await client.request({ method: 'GET', path }), 200);
    assert.equal(told, 0);
    const { url, caData } = { url: fake.server.url, caData: fake.authority.certificate };
    client.replaceAccess({ server: url, caData, credential: { token: 'another' } });
    assert.equal(told, 0);
    answered(await client.request({ method: 'GET', path }), 200);
    answered(await client.request({ method: 'GET', path }), 200);
    assert.equal(told, 1);
  });

  test('errors that it answers with do not count as failures', async () => {
    const client = clientOf({ limits: { breakerThreshold: 2 } });
    for (const status of [401, 403, 500, 503, 429, 500]) {
      fake.server.answer((_request, response) => json(response, status, {}));
      answered(await client.request({ method: 'GET', path }), status);
    }
  });
});

import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { buildApp } from '@cdaas/api/app.ts';
import { settingsFor } from '@cdaas/api/deps.ts';
import { createMetrics } from '@cdaas/api/plugins/metrics.ts';
import { createEventHub } from '@cdaas/control-plane/events.ts';
import { createLogger } from '@cdaas/control-plane/logging.ts';
import { createSigningKeys } from '@cdaas/control-plane/signing-keys.ts';
import { approval, pause, type Shop, shopFile, weight } from '../support/deployment-files.ts';
import * as cli from '../support/old-cli.ts';
import { openWorld, type Scene, type World } from '../support/world.ts';

/*
 * Whole commands of the client in use against real deployments: the start, the wait on GraphQL after it, and the polls of
 * `--watch` to its exit code (spec/cli-wire-protocol.md §3.5, §3.6, §11). Only the pauses between polls are left out.
 */

let world: World;
let scene: Scene;
let api: Awaited<ReturnType<typeof openApi>>;
let token: string;

before(async () => {
  world = await openWorld('cli_run');
  scene = await world.scene();
  api = await openApi();
  const { clientId, clientSecret } = scene.tenant.credential;
  const { body } = await api.send(cli.token(clientId, clientSecret));
  token = (JSON.parse(body) as { access_token: string }).access_token;
});
after(async () => {
  await api.close();
  await world.close();
});

async function openApi() {
  const { db, vault, queue, outbound } = scene.tenant.ctx;
  const log = createLogger('info', { write: (line) => void world.logs.push(line) });
  const events = await createEventHub({ db, log, pollMs: 200 });
  const settings = { ...settingsFor(cli.addr), requestsPerMinute: 1_000_000, drainSeconds: 0 };
  const signingKeys = createSigningKeys({ db, vault });
  const deps = { db, vault, queue, outbound, log, events, signingKeys, metrics: createMetrics(), settings };
  const app = await buildApp(deps);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  return {
    async send(request: string): Promise<cli.WireAnswer> {
      const [answer] = await cli.exchange(port, request);
      assert.ok(answer);
      return answer;
    },
    async close() {
      await events.close();
      await app.close();
    },
  };
}

/** `statuses`: what the polls saw change, RUNNING left out, which comes between any two for however short a time. */
type Outcome = { id: string; exit: number; statuses: string[] };
type During = Record<string, (id: string, answer: cli.WireAnswer) => Promise<void>>;

/** What the client does from the start on; `during` acts once when a status first shows. */
async function deploy(request: string, during: During = {}): Promise<Outcome> {
  const started = await api.send(request);
  const { exit, id = '' } = cli.afterStart(started);
  assert.equal(exit, 0, started.body);
  const requestId = '3f2c8a44-1b7e-4d52-9a10-6c0f5e7d8b91';
  assert.equal(cli.afterGraphql(await api.send(cli.graphql(token, id, requestId))), 'started');
  const statuses: string[] = [];
  for (;;) {
    const answer = await api.send(cli.rest(token, 'GET', `/pipelines/${id}`));
    const poll = cli.afterPoll(answer);
    if (poll.status !== 'RUNNING' && statuses.at(-1) !== poll.status) {
      statuses.push(poll.status);
      await during[poll.status]?.(id, answer);
    }
    if (poll.exit !== null) return { id, exit: poll.exit, statuses };
  }
}

const file = (shop: Partial<Shop> & { version: string }) =>
  cli.startFile(token, cli.goJson(shopFile({ namespace: scene.namespace, account: scene.account, ...shop })));

async function deploymentOf(pipelineId: string): Promise<string> {
  const { body } = await api.send(cli.rest(token, 'GET', `/pipelines/${pipelineId}`));
  const { steps } = JSON.parse(body) as { steps: { deployment: { id: string } }[] };
  return String(steps[0]?.deployment.id);
}

const act = (path: string) => api.send(cli.rest(token, 'POST', path));

describe('The client in use, watching real deployments', () => {
  let first: Outcome;

  it('3.6, 11: sees the first version through, exit code 0', async () => {
    first = await deploy(file({ version: '1' }));
    assert.deepEqual([first.exit, first.statuses], [0, ['SUCCEEDED']]);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });

  it('3.6, 4, 11: sees a canary wait for approval and pause, and knows every word of it', async () => {
    const steps = [weight(10), approval(), weight(60), pause(1)];
    const seen: string[] = [];
    const { exit, statuses } = await deploy(file({ version: '2', steps }), {
      async AWAITING_APPROVAL(id, answer) {
        seen.push(String(cli.statusText(answer)[1]));
        const approved = await act(`/deployments/${await deploymentOf(id)}/steps/canary-step-2/approve`);
        assert.equal(approved.statusLine, '202 Accepted', approved.body);
      },
      async PAUSED(_id, answer) {
        seen.push(String(cli.statusText(answer)[1]));
      },
    });
    assert.deepEqual(statuses, ['AWAITING_APPROVAL', 'PAUSED', 'SUCCEEDED']);
    assert.equal(exit, 0);
    assert.deepEqual(seen, [
      'status: [AWAITING_APPROVAL] msg: Paused for Manual Judgment.',
      'status: [PAUSED] msg: Paused for 1 SECONDS.',
    ]);
    assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
  });

  it('3.5, 3.6, 11: meets a second start with exit code 3, and a roll back of the first with 1', async () => {
    const { exit, statuses } = await deploy(file({ version: '3', steps: [weight(10), approval()] }), {
      async AWAITING_APPROVAL(id) {
        assert.equal(cli.afterStart(await api.send(file({ version: '4' }))).exit, 3);
        assert.equal((await act(`/deployments/${await deploymentOf(id)}/rollback`)).statusLine, '202 Accepted');
      },
    });
    assert.deepEqual([exit, statuses], [1, ['AWAITING_APPROVAL', 'CANCELLED']]);
    assert.deepEqual(scene.send(20), { answers: { '2': 20 }, failed: 0 });
  });

  it('3.2, 3.4, 11: brings the first version back by its id', async () => {
    const again = await deploy(cli.startLocation(token, cli.locationOf(first.id), cli.linkBody()));
    assert.notEqual(again.id, first.id);
    assert.deepEqual([again.exit, again.statuses], [0, ['SUCCEEDED']]);
    assert.deepEqual(scene.send(20), { answers: { '1': 20 }, failed: 0 });
  });
});

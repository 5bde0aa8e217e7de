import assert from 'node:assert/strict';
import { chmodSync, readFileSync, rmSync, statSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { until } from '../support/until.ts';
import {
  connect,
  example,
  type Installation,
  isAlive,
  newInstallation,
  postgresPid,
  type Running,
} from './installation.ts';

type Pipelines = { pipelines: { id: string; status: string; description: string }[] };
type Pipeline = { status: string; steps: { deployment: { id: string } }[] };

/** One data folder from its first start on, in the order in which these things happen to it. */
describe('an installation of npm start', { concurrency: false }, () => {
  const installation = newInstallation();
  after(() => installation.remove());

  test('first shows version 1, then a canary of version 2, in under a minute, with what callers really got', async () => {
    const began = performance.now();
    const running = installation.start();
    await running.prints(/The mesh took 10 %/, 30_000);
    await running.prints(/Version 2 has all traffic/);
    assert.ok(performance.now() - began < 60_000);
    await running.prints(/serves until Ctrl-C/);
    const shares = [...running.output().matchAll(/requests answered by {2}v1 +(\d+) %.* v2 +(\d+) %/g)];
    assertShares(shares.map(([, v1, v2]) => [Number(v1), Number(v2)]));
    assert.match(running.output(), /Of \d+ requests that were sent meanwhile, none failed/);
    for (const next of [
      /oauth\/token/,
      /examples\/manual-approval\.yaml/,
      /text\/event-stream/,
      /kubectl --kubeconfig/,
    ]) {
      assert.match(running.output(), next);
    }
    await assertStops(installation, running, 'SIGINT');
  });

  test('keeps its secrets for its owner, and a credential of the system role in admin.json', () => {
    for (const name of ['admin.json', 'key', 'sandbox.kubeconfig', 'postgres.json', 'cdaas.log']) {
      assert.equal(statSync(installation.path(name)).mode & 0o777, 0o600, name);
    }
    const admin = JSON.parse(readFileSync(installation.path('admin.json'), 'utf8')) as object;
    assert.deepEqual(Object.keys(admin), ['url', 'organisation', 'tenant', 'clientId', 'clientSecret']);
    const { clientSecret } = admin as { clientSecret: string };
    assert.ok(!readFileSync(installation.path('cdaas.log'), 'utf8').includes(clientSecret));
    assert.equal(readFileSync(installation.path('.gitignore'), 'utf8'), '*\n');
  });

  test('keeps all data over a restart and does not repeat the demo', async () => {
    const running = installation.start();
    const api = await connect(installation, await running.url());
    await running.prints(/serves until Ctrl-C/);
    assert.doesNotMatch(running.output(), /as a canary|Try it yourself/);
    const { pipelines } = await api.get<Pipelines>('/pipelines');
    assert.deepEqual(
      pipelines.map(({ status }) => status),
      ['SUCCEEDED', 'SUCCEEDED'],
    );
    await assertStops(installation, running, 'SIGTERM');
  });

  test('refuses a second instance on the same folder, naming the first', async () => {
    const first = installation.start(['--no-demo']);
    const url = await first.url();
    const second = installation.start(['--no-demo']);
    assert.equal(await second.ended(), 1);
    assert.match(second.output(), new RegExp(`is running on .* already \\(process ${first.mainPid()}, ${url}\\)`));
    assert.match(second.output(), /CDAAS_DATA_DIR=/);
    await assertStops(installation, first, 'SIGINT');
  });

  test('goes on after kill -9 where it was, and ends the Postgres that was left', async () => {
    const killed = installation.start(['--no-demo'], { DRAIN_SECONDS: '1' });
    const before = await connect(installation, await killed.url());
    const { pipelineId } = await before.post<{ pipelineId: string }>(
      '/pipelines/kubernetes',
      example('manual-approval.yaml'),
    );
    await reaches(before, pipelineId, 'AWAITING_APPROVAL');
    const orphan = postgresPid(installation);
    process.kill(killed.mainPid(), 'SIGKILL');
    await killed.ended();
    assert.ok(orphan !== undefined && isAlive(orphan), 'Postgres outlives a kill -9');

    const running = installation.start(['--no-demo']);
    await running.prints(/Postgres of an earlier run is still alive/);
    const api = await connect(installation, await running.url());
    assert.ok(!isAlive(orphan));
    const { status, steps } = await api.get<Pipeline>(`/pipelines/${pipelineId}`);
    assert.equal(status, 'AWAITING_APPROVAL');
    const [deploymentId] = steps.map(({ deployment }) => deployment.id);
    await running.prints(/shop awaits approval of canary-step-2:/);
    assert.ok(running.output().includes(`/deployments/${deploymentId}/steps/canary-step-2/approve`));
    await api.post(`/deployments/${deploymentId}/steps/canary-step-2/approve`);
    await reaches(api, pipelineId, 'SUCCEEDED');
    await assertStops(installation, running, 'SIGINT');
  });

  test('recovers a Postgres that was killed as well', async () => {
    const killed = installation.start(['--no-demo']);
    await killed.url();
    const orphan = postgresPid(installation);
    assert.ok(orphan !== undefined);
    process.kill(killed.mainPid(), 'SIGKILL');
    process.kill(orphan, 'SIGKILL');
    await killed.ended();
    const running = installation.start(['--no-demo']);
    const api = await connect(installation, await running.url());
    assert.match(running.output(), /did not end in order; it recovers/);
    assert.equal((await api.get<Pipelines>('/pipelines')).pipelines.length, 3);
    await assertStops(installation, running, 'SIGINT');
  });

  test('quits at once on a second Ctrl-C and leaves no Postgres', async () => {
    const running = installation.start(['--no-demo']);
    const url = await running.url();
    const postgres = postgresPid(installation);
    assert.ok(postgres !== undefined);
    // A request in flight keeps the first Ctrl-C waiting.
    const hanging = fetch(`${url}/oauth/token`, {
      method: 'POST',
      body: new ReadableStream({ pull: () => new Promise(() => {}) }),
      duplex: 'half',
    } as RequestInit);
    hanging.catch(() => undefined);
    running.process.kill('SIGINT');
    await running.prints(/Stopping/);
    const again = setInterval(() => running.process.kill('SIGINT'), 100);
    const code = await running.ended(8_000);
    clearInterval(again);
    // null: one more Ctrl-C reached the launcher when it had nothing left to do but end.
    assert.ok(code === 130 || code === 0 || code === null, `exit code ${code}`);
    await until(() => !isAlive(postgres), 'Postgres to end', 10_000);
  });

  test('stops when the process that npm started is killed', async () => {
    const running = installation.start(['--no-demo']);
    await running.url();
    const main = running.mainPid();
    const postgres = postgresPid(installation);
    running.process.kill('SIGKILL');
    await until(() => !isAlive(main) && postgres !== undefined && !isAlive(postgres), 'everything to end', 20_000);
  });
});

test('npm start works in a folder that only its owner may enter, such as a clone in /root', async () => {
  const installation = newInstallation();
  chmodSync(installation.folder, 0o700);
  const running = installation.start(['--no-demo']);
  await running.prints(/nothing runs yet, so it goes straight to 100 %/);
  running.process.kill('SIGINT');
  assert.equal(await running.ended(), 0, running.output());
  const { folder } = JSON.parse(readFileSync(installation.path('postgres.json'), 'utf8')) as { folder?: string };
  if (folder !== undefined) rmSync(folder, { recursive: true });
  await installation.remove();
});

/** Each weight of the canary within four standard deviations of 200 requests, from all on version 1 to all on version 2. */
function assertShares(shares: (number | undefined)[][]): void {
  const seen = shares.map(([, v2]) => v2 ?? -1);
  for (const weight of [0, 10, 25, 50, 75, 100]) {
    const tolerance = 4 * Math.sqrt((weight * (100 - weight)) / 200) + 0.5;
    assert.ok(
      seen.some((share) => Math.abs(share - weight) <= tolerance),
      `no sample near ${weight} %: ${seen.join(', ')}`,
    );
  }
  for (const [v1 = 0, v2 = 0] of shares) assert.equal(v1 + v2, 100);
}

async function assertStops(installation: Installation, running: Running, signal: NodeJS.Signals): Promise<void> {
  const postgres = postgresPid(installation);
  const main = running.mainPid();
  running.process.kill(signal);
  assert.equal(await running.ended(), 0, running.output());
  assert.match(running.output(), /Stopped in/);
  assert.ok(!isAlive(main));
  assert.ok(postgres !== undefined && !isAlive(postgres), 'Postgres has ended');
  assert.equal(postgresPid(installation), undefined, 'Postgres ended in order');
}

async function reaches(api: Awaited<ReturnType<typeof connect>>, pipelineId: string, status: string): Promise<void> {
  let last = '';
  await until(
    async () => {
      last = (await api.get<Pipeline>(`/pipelines/${pipelineId}`)).status;
      return last === status;
    },
    `${status}`,
    60_000,
  );
}

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { connect, example, newInstallation } from './installation.ts';

const installation = newInstallation();
after(() => installation.remove());

test('a demo that kill -9 interrupts goes on from the weight that was reached', async () => {
  const quick = { DRAIN_SECONDS: '1' };
  const killed = installation.start([], quick);
  await killed.prints(/The mesh took 25 %/);
  process.kill(killed.mainPid(), 'SIGKILL');
  await killed.ended();

  const running = installation.start([], quick);
  await running.prints(/The demo was interrupted\. What it had begun goes on where it was\./);
  await running.prints(/Version 2 has all traffic/);
  const weights = [...running.output().matchAll(/TrafficSplit web set: (\d+) %/g)].map(([, weight]) => Number(weight));
  assert.deepEqual(weights, [10, 25, 50, 75, 100], 'no weight twice, none left out, in order');
  assert.match(running.output(), /none failed/);
  running.process.kill('SIGINT');
  assert.equal(await running.ended(), 0);
});

test('the demo does not come between deployments that were there before it', async () => {
  const own = newInstallation();
  after(() => own.remove());
  const first = own.start(['--no-demo']);
  const api = await connect(own, await first.url());
  await api.post('/pipelines/kubernetes', example('manual-approval.yaml'));
  first.process.kill('SIGINT');
  assert.equal(await first.ended(), 0);

  const second = own.start();
  await second.prints(/serves until Ctrl-C/);
  assert.doesNotMatch(second.output(), /of the sample application/);
  second.process.kill('SIGINT');
  assert.equal(await second.ended(), 0, second.output());
});

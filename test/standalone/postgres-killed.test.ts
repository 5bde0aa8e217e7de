import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { until } from '../support/until.ts';
import { connect, example, type Installation, newInstallation, postgresPid, type Running } from './installation.ts';

type Pipeline = { status: string; steps: { deployment: { id: string } }[] };

/** The Postgres of a running installation ends, each time in another way. */
describe('npm start whose Postgres is killed', { concurrency: false }, () => {
  let installation: Installation;
  let running: Running;
  let url: string;
  let api: Awaited<ReturnType<typeof connect>>;

  before(async () => {
    installation = newInstallation();
    running = installation.start(['--no-demo'], { DRAIN_SECONDS: '1' });
    url = await running.url();
    api = await connect(installation, url);
  });
  after(() => installation.remove());

  const killPostgres = () => {
    const pid = postgresPid(installation);
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGKILL');
  };

  const deploy = async (version: string): Promise<string> => {
    const file = example('manual-approval.yaml').replace(/shop:\d[\d.]*/, `shop:${version}`);
    return (await api.post<{ pipelineId: string }>('/pipelines/kubernetes', file)).pipelineId;
  };

  /** Postgres may be away meanwhile. */
  const reaches = async (pipelineId: string, status: string): Promise<void> => {
    const read = async () => (await api.get<Pipeline>(`/pipelines/${pipelineId}`)).status;
    await until(async () => (await read().catch(() => 'unknown')) === status, status, 60_000, 100);
  };

  test('connects as users who are nobody without their role', async () => {
    const { port, password } = JSON.parse(readFileSync(installation.path('postgres.json'), 'utf8')) as {
      port: number;
      password: string;
    };
    const client = new pg.Client({ host: '127.0.0.1', port, password, user: 'postgres', database: 'cdaas' });
    await client.connect();
    const { rows } = await client.query<{ usename: string }>(`
      select distinct usename, rolsuper, rolbypassrls
      from pg_stat_activity join pg_roles on rolname = usename
      where application_name like 'cdaas%' order by usename`);
    await client.end();
    const nobody = { rolsuper: false, rolbypassrls: false };
    assert.deepEqual(rows, [
      { usename: 'cdaas_api_login', ...nobody },
      { usename: 'cdaas_worker_login', ...nobody },
    ]);
  });

  test('starts it again and goes on by itself, and says so', async () => {
    await reaches(await deploy('1.0.0'), 'SUCCEEDED');
    const pipelineId = await deploy('2.0.0');
    await reaches(pipelineId, 'AWAITING_APPROVAL');
    const linesBefore = logLines(installation);

    const readiness = async () => (await fetch(`${url}/readyz`)).status;
    assert.equal(await readiness(), 200);
    const seen = new Set<number>();
    killPostgres();
    await until(async () => seen.add(await readiness()).has(503), '/readyz to say 503', 10_000);
    await running.prints(/Postgres ended unasked \(SIGKILL\); starting it again/);
    await running.prints(/Postgres is back/);
    await until(async () => (await readiness()) === 200, '/readyz to say 200', 20_000);

    const { steps } = await api.get<Pipeline>(`/pipelines/${pipelineId}`);
    const [deploymentId] = steps.map(({ deployment }) => deployment.id);
    await api.post(`/deployments/${deploymentId}/steps/canary-step-2/approve`);
    await reaches(pipelineId, 'SUCCEEDED');
    const troubled = logLines(installation)
      .slice(linesBefore.length)
      .filter(({ level }) => level >= 40);
    assert.ok(troubled.length < 40, `${troubled.length} warnings:\n${troubled.map(({ msg }) => msg).join('\n')}`);
  });

  test('goes on when it is killed in the middle of a canary', async () => {
    const pipelineId = await deploy('3.0.0');
    await reaches(pipelineId, 'RUNNING');
    killPostgres();
    await reaches(pipelineId, 'AWAITING_APPROVAL');
  });

  test('ends with what to do where it cannot be started again', async () => {
    writeFileSync(installation.path('postgres/PG_VERSION'), 'broken');
    killPostgres();
    assert.equal(await running.ended(90_000), 1);
    assert.match(running.output(), /Postgres did not start[\s\S]*PG_VERSION[\s\S]*move .* away and start again/);
  });
});

function logLines(installation: Installation): { level: number; msg: string }[] {
  return readFileSync(installation.path('cdaas.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { level: number; msg: string });
}

import { randomInt } from 'node:crypto';
import type { Database } from './database/db.ts';
import { type ConnectionReports, keepConnected } from './database/keep-connected.ts';
import type { Prisma } from './generated/client.ts';

// Who drives what (design: "Liveness", "Watches have one owner"). A worker is alive while it holds the session advisory lock
// (7777, its id); the lock only speeds up taking over: safety is the version of the row and of the cluster's objects.

const lockClass = 7777;

/**
 * Takes a new worker id and its lock, on a direct connection with keepalives of a few seconds, so that a machine that is
 * gone is noticed. A lost connection is made again and the lock retaken; what others took over meanwhile is theirs.
 *
 * @param reports told of each time that the connection is lost, and when the lock is held again
 * @throws where the server cannot be reached at first
 */
export async function holdWorkerLock(
  db: Pick<Database, 'url'>,
  reports: ConnectionReports = {},
): Promise<{ workerId: number; close(): Promise<void> }> {
  const workerId = randomInt(1, 2 ** 31);
  const { close } = await keepConnected({
    url: db.url,
    applicationName: `cdaas worker ${workerId}`,
    async prepare(client) {
      // The last one is for answers on their way, of which keepalives take no notice.
      await client.query(
        'set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 3; set tcp_user_timeout = 5000',
      );
      const { rows } = await client.query<{ taken: boolean }>('select pg_try_advisory_lock($1, $2) as taken', [
        lockClass,
        workerId,
      ]);
      // Held still by the connection that was lost: until the server notices.
      if (!rows[0]?.taken) throw new Error(`the lock of worker ${workerId} is held by another connection`);
    },
    ...reports,
  });
  return { workerId, close };
}

/** The workers that hold their lock. */
export async function liveWorkers(db: Pick<Database, 'sql'>): Promise<ReadonlySet<number>> {
  const [row] = await db.sql<{ ids: number[] }>('live_workers', 'select live_workers() as ids', []);
  return new Set(row?.ids);
}

/** An event that the state does not hold yet. */
export type UnfoldedEvent = { number: number; type: string; data: Prisma.JsonValue; at: Date };

/** A deployment as its driver needs it. `plan` is encrypted; `news` are the events that `state` does not hold yet, in order. */
export type DrivenDeployment = {
  id: string;
  organisationId: string;
  tenantId: string;
  pipelineId: string;
  clusterId: string;
  plan: Uint8Array;
  state: Prisma.JsonValue;
  version: number;
  news: UnfoldedEvent[];
};

/** A pipeline as decidePipeline needs it. `news` are its own events that `state` does not hold yet. */
export type DrivenPipeline = {
  id: string;
  state: Prisma.JsonValue;
  version: number;
  news: UnfoldedEvent[];
  deployments: { id: string; target: string; status: string }[];
};

/**
 * Takes deployments that somebody must look at: due without an owner, left by a worker that is gone, or 20 s overdue.
 *
 * @returns those taken, and beside them those that this worker drives already and that have news
 */
export async function claimDue(
  db: Pick<Database, 'sql'>,
  workerId: number,
  limit: number,
): Promise<{ taken: DrivenDeployment[]; news: { id: string; version: number }[] }> {
  const rows = await db.sql<{ taken: boolean } & DeploymentRow>(
    'claim_due',
    'select * from claim_due($1::int, $2::int)',
    [workerId, limit],
  );
  return {
    taken: rows.filter(({ taken }) => taken).map(deploymentOf),
    news: rows.filter(({ taken }) => !taken).map(({ id, version }) => ({ id, version })),
  };
}

/** Reads deployments again that the worker owns: after news, or after a commit that lost. One it lost to another is missing. */
export async function loadOwned(
  db: Pick<Database, 'sql'>,
  workerId: number,
  ids: readonly string[],
): Promise<DrivenDeployment[]> {
  const rows = await db.sql<DeploymentRow>(
    'load_owned',
    'select id, version, plan, deployment from driven_deployment where id = any ($1::uuid[]) and owner = $2::int',
    [ids, workerId],
  );
  return rows.map(deploymentOf);
}

/** Takes pipelines that somebody must look at, by the same rules. Deciding ends with advancePipeline, which lets go. */
export async function claimDuePipelines(
  db: Pick<Database, 'sql'>,
  workerId: number,
  limit: number,
): Promise<DrivenPipeline[]> {
  const rows = await db.sql<PipelineRow>('claim_due_pipelines', 'select * from claim_due_pipelines($1::int, $2::int)', [
    workerId,
    limit,
  ]);
  return rows.map(pipelineOf);
}

/** Reads a pipeline that the worker owns again, after a decision that lost; null where it is no longer the owner. */
export async function loadPipeline(
  db: Pick<Database, 'sql'>,
  workerId: number,
  id: string,
): Promise<DrivenPipeline | null> {
  const [row] = await db.sql<PipelineRow>(
    'load_pipeline',
    'select id, version, pipeline from driven_pipeline where id = $1::uuid and owner = $2::int',
    [id, workerId],
  );
  return row ? pipelineOf(row) : null;
}

/** Makes the worker the owner of a cluster's watches if nobody alive is. A take-over bumps the epoch. */
export async function takeWatchLease(
  db: Pick<Database, 'sql'>,
  workerId: number,
  clusterId: string,
): Promise<{ owner: number; epoch: number }> {
  const [lease] = await db.sql<{ owner: number; epoch: number }>(
    'take_watch_lease',
    'select * from take_watch_lease($1::int, $2::uuid)',
    [workerId, clusterId],
  );
  if (lease === undefined) throw new Error(`no watch lease for cluster ${clusterId}`);
  return lease;
}

/** Lets go of a cluster's watches; no worker has the id 0. */
export async function releaseWatchLease(
  db: Pick<Database, 'prisma'>,
  workerId: number,
  clusterId: string,
): Promise<void> {
  await db.prisma.watchLease.updateMany({ where: { clusterId, owner: workerId }, data: { owner: 0 } });
}

// Dates inside jsonb arrive as text.
type Stored<T extends { news: UnfoldedEvent[] }> = Omit<T, 'news'> & {
  news: (Omit<UnfoldedEvent, 'at'> & { at: string })[];
};
type DeploymentRow = {
  id: string;
  version: number;
  plan: Uint8Array;
  deployment: Stored<Omit<DrivenDeployment, 'id' | 'version' | 'plan'>>;
};
type PipelineRow = { id: string; version: number; pipeline: Stored<Omit<DrivenPipeline, 'id' | 'version'>> };

function deploymentOf({ id, version, plan, deployment }: DeploymentRow): DrivenDeployment {
  return { ...deployment, news: deployment.news.map(eventOf), id, version, plan };
}

function pipelineOf({ id, version, pipeline }: PipelineRow): DrivenPipeline {
  return { ...pipeline, news: pipeline.news.map(eventOf), id, version };
}

function eventOf(event: Stored<DrivenPipeline>['news'][number]): UnfoldedEvent {
  return { ...event, at: new Date(event.at) };
}

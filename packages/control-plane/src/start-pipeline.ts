import type { Scope } from './context.ts';
import { type Database, scoped } from './database/db.ts';
import { storableJson } from './storable-json.ts';
import { type Claim, claimRow, type Json, type NewEvent, type RefusedClaim } from './transitions.ts';

/** A request that may be sent again with its `Idempotency-Key`; unique for tenant, principal and route, for 24 h. */
export type IdempotentRequest = { principal: string; route: string; key: string };

/** What was answered to it. */
export type EarlierAnswer = { status: number; response: unknown; bodyHash: string };

/**
 * Everything that a start stores. Binary fields are encrypted. Events of the pipeline itself count as folded into its state;
 * those of a deployment are news for its driver. `claims` are looked up only: they are taken when the target starts.
 */
export type PipelineStart = {
  pipeline: {
    id: string;
    application: string;
    description: string;
    status: string;
    initiatedBy: string;
    source: Json | null;
    sourceControl: Json | null;
    context: Json | null;
    config: Uint8Array;
    configDigest: string;
    state: Json;
    /** Somebody must look at it at once. */
    due: boolean;
    startedAt?: Date | null;
  };
  deployments: {
    id: string;
    clusterId: string;
    target: string;
    account: string;
    namespace: string;
    status: string;
    phase?: string | null;
    plan: Uint8Array;
    state: Json;
    /** Somebody must look at it at once. */
    due: boolean;
  }[];
  events: ({ deploymentId?: string } & NewEvent)[];
  claims?: Claim[];
  idempotency?: IdempotentRequest & { bodyHash: string; status: number; response: Json };
};

/** Exactly one key: started, or why nothing was stored. `running`: the same request is being handled at this moment. */
export type StartResult =
  | { started: true }
  | { blockedBy: string }
  | { replay: EarlierAnswer }
  | { running: true }
  | { missingCluster: string }
  | { refusedClaim: RefusedClaim };

/** Stores a pipeline with its deployments, first events and idempotency row in one transaction and one round trip. */
export async function insertPipeline(
  db: Pick<Database, 'prisma'>,
  scope: Scope,
  start: PipelineStart,
): Promise<StartResult> {
  const { pipeline, deployments, events, claims = [], idempotency } = start;
  const request = storableJson({
    organisation_id: scope.organisationId,
    tenant_id: scope.tenantId,
    pipeline: {
      id: pipeline.id,
      application: pipeline.application,
      description: pipeline.description,
      status: pipeline.status,
      initiated_by: pipeline.initiatedBy,
      source: pipeline.source,
      source_control: pipeline.sourceControl,
      context: pipeline.context,
      config_base64: Buffer.from(pipeline.config).toString('base64'),
      config_digest: pipeline.configDigest,
      state: pipeline.state,
      due: pipeline.due,
      started_at: pipeline.startedAt,
    },
    deployments: deployments.map(({ clusterId, plan, ...same }) => ({
      ...same,
      cluster_id: clusterId,
      plan_base64: Buffer.from(plan).toString('base64'),
    })),
    events: events.map(({ deploymentId, ...event }) => ({ ...event, deployment_id: deploymentId })),
    claims: claims.map(claimRow),
    idempotency: idempotency && {
      principal: idempotency.principal,
      route: idempotency.route,
      key: idempotency.key,
      body_hash: idempotency.bodyHash,
      status: idempotency.status,
      response: idempotency.response,
    },
  });
  const [row] = await db.prisma.$queryRaw<
    { result: StartResult }[]
  >`select start_pipeline(${request}::jsonb) as result`;
  if (row === undefined) throw new Error('start_pipeline did not answer');
  return row.result;
}

/** The answer that a request got the first time, in the last 24 h; null where it is new. */
export async function findIdempotent(
  db: Pick<Database, 'prisma' | 'clock'>,
  scope: Scope,
  { principal, route, key }: IdempotentRequest,
): Promise<EarlierAnswer | null> {
  const { tenantId } = scope;
  return scoped(db, scope, (tx) =>
    tx.idempotencyKey.findFirst({
      where: { tenantId, principal, route, key, createdAt: { gt: new Date(db.clock.now().getTime() - 86_400_000) } },
      select: { status: true, response: true, bodyHash: true },
    }),
  );
}

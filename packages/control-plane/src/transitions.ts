import type { Database } from './database/db.ts';
import { isDatabaseUnavailable } from './database/errors-db.ts';
import type { Prisma } from './generated/client.ts';
import { storableJson } from './storable-json.ts';

/** What Prisma takes for a jsonb column. */
export type Json = Prisma.InputJsonValue;

/** An event to append. `at` is Postgres' clock as the driver estimates it, and stored as given. */
export type NewEvent = { type: string; data: Json; message?: string | null; at: Date };

/** What a deployment created or changed in its cluster; `previous` is encrypted and kept from the first time it is given. */
export type OwnedChange = {
  slot: string;
  apiVersion: string;
  kind: string;
  namespace: string | null;
  name: string;
  action: 'created' | 'changed';
  previous?: Uint8Array;
  uid?: string;
  resourceVersion?: string;
};

/** An object that one deployment at a time may drive. `namespace` is empty for cluster-scoped kinds. */
export type Claim = { clusterUid: string; namespace: string; kind: string; name: string };

/** An object that another deployment drives already; its id is told within one tenant only. */
export type RefusedClaim = {
  kind: string;
  namespace: string;
  name: string;
  sameTenant: boolean;
  deploymentId: string | null;
};

/**
 * One step of one deployment. `version` and `owner` are those that the driver knows; a win says that the state holds every
 * event up to then. `done` is final: it lets go of the row and its claims and makes the pipeline due, all in one transaction.
 */
export type Transition = {
  id: string;
  version: number;
  owner: number | null;
  state: Json;
  status: string;
  phase: string | null;
  wakeAt: Date | null;
  done: boolean;
  startedAt?: Date;
  completedAt?: Date;
  /** Nobody drives it until it is due: for long waits. */
  release?: boolean;
  events: NewEvent[];
  owned?: OwnedChange[];
  claims?: Claim[];
  freeClaims?: boolean;
};

/** `number`: that of the deployment's newest event. Lost: somebody else moved the row, or an object is not to be had. */
export type Outcome = { won: true; version: number; number: number } | { won: false; refusedClaim?: RefusedClaim };

/** Takes transitions and commits them in groups: one flush in flight, everything that waits meanwhile in the next. */
export type Committer = {
  /** @throws Error where Postgres could not commit it; then it is not known to be stored, and the row must be loaded again */
  commit(transition: Transition): Promise<Outcome>;
  /** Waits until everything handed in is committed. */
  close(): Promise<void>;
};

const groupSize = 128;

export function createCommitter(db: Pick<Database, 'sql'>): Committer {
  type Waiting = { transition: Transition; resolve: (outcome: Outcome) => void; reject: (error: unknown) => void };
  let waiting: Waiting[] = [];
  let flushing: Promise<void> | undefined;

  const settle = (group: Waiting[], outcomes: Map<string, Outcome>) => {
    for (const { transition, resolve } of group) resolve(outcomes.get(transition.id) ?? { won: false });
  };

  const flush = async () => {
    while (waiting.length > 0) {
      // A deployment may stand in a group once; a second transition of it waits for the next.
      const ids = new Set<string>();
      const group: Waiting[] = [];
      waiting = waiting.filter((entry) => {
        if (group.length >= groupSize || ids.has(entry.transition.id)) return true;
        ids.add(entry.transition.id);
        group.push(entry);
        return false;
      });
      try {
        settle(
          group,
          await advanceMany(
            db,
            group.map(({ transition }) => transition),
          ),
        );
      } catch (error) {
        // One bad row must not stop the others; where Postgres is away, each would only wait in vain.
        if (group.length === 1 || isDatabaseUnavailable(error)) for (const { reject } of group) reject(error);
        else
          for (const entry of group)
            await advanceMany(db, [entry.transition]).then((o) => settle([entry], o), entry.reject);
      }
    }
    flushing = undefined;
  };

  return {
    commit: (transition) =>
      new Promise((resolve, reject) => {
        waiting.push({ transition, resolve, reject });
        // At the end of this turn of the event loop, so that all that its answers from clusters decide goes in one group.
        flushing ??= new Promise((done) => setImmediate(done)).then(flush);
      }),
    close: async () => {
      await flushing;
    },
  };
}

/** Commits transitions in one round trip; an id that is missing in the answer was moved by somebody else. */
export async function advanceMany(
  db: Pick<Database, 'sql'>,
  transitions: readonly Transition[],
): Promise<Map<string, Outcome>> {
  type Row = { id: string; version: number; number: number; refused_claim: RefusedClaim | null };
  const batch = storableJson(transitions.map(transitionRow));
  const rows = await db.sql<Row>('advance_many', 'select * from advance_many($1::jsonb)', [batch]);
  return new Map(
    rows.map(({ id, version, number, refused_claim }): [string, Outcome] => [
      id,
      refused_claim ? { won: false, refusedClaim: refused_claim } : { won: true, version, number },
    ]),
  );
}

function transitionRow(transition: Transition) {
  const { wakeAt, startedAt, completedAt, freeClaims, owned = [], claims = [], ...same } = transition;
  return {
    ...same,
    wake_at: wakeAt,
    started_at: startedAt,
    completed_at: completedAt,
    free_claims: freeClaims,
    claims: claims.map(claimRow),
    owned: owned.map(({ apiVersion, previous, resourceVersion, ...change }) => ({
      ...change,
      api_version: apiVersion,
      resource_version: resourceVersion,
      previous_base64: previous && Buffer.from(previous).toString('base64'),
    })),
  };
}

export function claimRow({ clusterUid, ...claim }: Claim) {
  return { ...claim, cluster_uid: clusterUid };
}

/** A decision about a pipeline. Its deployments that are named get a status, an event for their driver, or both, and are due. */
export type PipelineDecision = {
  id: string;
  version: number;
  owner: number | null;
  state: Json;
  status: string;
  wakeAt: Date | null;
  startedAt?: Date;
  completedAt?: Date;
  events: NewEvent[];
  deployments?: { id: string; status?: string; event?: NewEvent }[];
};

/** `woken`: the deployments that are due now, with whoever drives them, to be sent a wake-up. */
export type PipelineOutcome =
  | { won: true; version: number; number: number; woken: { id: string; owner: number | null }[] }
  | { won: false };

/** Commits a decision about a pipeline and lets the row go. Lost: it was moved since it was read, or is final. */
export async function advancePipeline(db: Pick<Database, 'sql'>, decision: PipelineDecision): Promise<PipelineOutcome> {
  type Row = { version: number; number: number; woken: { id: string; owner: number | null }[] };
  const { wakeAt, startedAt, completedAt, deployments = [], ...same } = decision;
  const row = { ...same, deployments, wake_at: wakeAt, started_at: startedAt, completed_at: completedAt };
  const values = [storableJson(row)];
  const [won] = await db.sql<Row>('advance_pipeline', 'select * from advance_pipeline($1::jsonb)', values);
  return won ? { won: true, ...won } : { won: false };
}

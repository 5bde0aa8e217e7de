import { shownText } from '@cdaas/contract/text.ts';
import type { Logger } from 'pino';
import type { Database } from '../database/db.ts';
import { createKubeClient } from '../drivers/kube.ts';
import { statusMessage } from '../drivers/kube-answer.ts';
import type { ClusterKey, LoadCluster } from '../drivers/kube-clients.ts';
import type { Outcome } from '../drivers/kube-exchange.ts';
import type { Outbound } from '../outbound.ts';

/*
 * Whether registered clusters answer, looked at by the workers in turn, apart from all deployments: a cluster that is away
 * makes no event of a pipeline. A check is taken by moving its next time on, in the statement that finds it, so that one
 * worker does each, and one that dies delays it by an interval.
 */

export type ClusterHealthDeps = {
  db: Database;
  loadCluster: LoadCluster;
  outbound: Outbound;
  log: Logger;
  /** Between two checks of a cluster. */
  everySeconds: number;
};

/** A check that was taken. */
export type DueCheck = ClusterKey & { attempt: number };

export type Checked = {
  state: 'healthy' | 'refused' | 'unreachable';
  latencyMs: number | null;
  error: string | null;
};

const timeoutMs = 10_000;
const keptChanges = 50;
const maxErrorLength = 300;

/** Takes checks that are due, `most` at most, organisations in turn as claim_due does; whoever takes one is the only one who carries it out. */
export function takeDueChecks(
  { db, everySeconds }: Pick<ClusterHealthDeps, 'db' | 'everySeconds'>,
  most: number,
): Promise<DueCheck[]> {
  return db.prisma.$queryRaw<DueCheck[]>`
    update cluster_health h
    set attempt = h.attempt + 1, next_check_at = clock_timestamp() + make_interval(secs => ${everySeconds}::float8)
    from (
      select locked.cluster_id from cluster_health locked
      join (
        select cluster_id, next_check_at, row_number() over (partition by organisation_id order by next_check_at) as turn
        from cluster_health where next_check_at <= clock_timestamp()
        order by turn, next_check_at limit ${most}::int
      ) candidate on candidate.cluster_id = locked.cluster_id and candidate.next_check_at = locked.next_check_at
      for update of locked skip locked
    ) due
    where h.cluster_id = due.cluster_id
    returning h.cluster_id::text as "clusterId", h.organisation_id::text as "organisationId",
      h.tenant_id::text as "tenantId", h.attempt`;
}

/** Carries out a check and stores what it saw. */
export async function checkCluster(deps: ClusterHealthDeps, taken: DueCheck, signal: AbortSignal): Promise<void> {
  const checked = await ask(deps, taken, signal);
  if (checked && !signal.aborted) await store(deps, taken, checked);
}

/** Asks for the version with the credential: a server that would answer anybody still refuses a credential that it does not know. */
async function ask(
  { loadCluster, outbound }: ClusterHealthDeps,
  key: ClusterKey,
  signal: AbortSignal,
): Promise<Checked | undefined> {
  const loaded = await loadCluster(key);
  if (loaded === undefined || loaded === 'unchanged') return undefined;
  const client = createKubeClient({ ...loaded.access, outbound });
  try {
    const started = performance.now();
    const outcome = await client.version({ timeoutMs, signal });
    const latencyMs = Math.round(performance.now() - started);
    return judge(outcome, latencyMs, secretsOf(loaded.access.credential));
  } finally {
    await client.close();
  }
}

function secretsOf(credential: { token: string } | { certificate: string; key: string }): string[] {
  return 'token' in credential ? [credential.token] : [credential.key];
}

/** What an answer says of a cluster. Its words are cut, shown as text, and never hold the credential. */
export function judge(outcome: Outcome, latencyMs: number, secrets: readonly string[]): Checked {
  const words = (text: string) => {
    const redacted = secrets.reduce((left, secret) => left.replaceAll(secret, '[redacted]'), text);
    return shownText(redacted, maxErrorLength);
  };
  if (outcome.kind === 'unreachable') return { state: 'unreachable', latencyMs: null, error: words(outcome.reason) };
  if (outcome.status === 200) return { state: 'healthy', latencyMs, error: null };
  const said = statusMessage(outcome.body);
  const error = words(`the cluster answered ${outcome.status}${said === '' ? '' : `: ${said}`}`);
  const isRefused = outcome.status === 401 || outcome.status === 403;
  return { state: isRefused ? 'refused' : 'unreachable', latencyMs, error };
}

/** Stores a result, unless a later check of the cluster was taken meanwhile. */
async function store({ db, log }: ClusterHealthDeps, taken: DueCheck, checked: Checked): Promise<void> {
  const { clusterId, organisationId, tenantId, attempt } = taken;
  const { state, latencyMs, error } = checked;
  const at = db.clock.now();
  const changed = await db.prisma.$transaction(async (tx) => {
    const [before] = await tx.$queryRaw<{ state: string }[]>`
      select state from cluster_health where cluster_id = ${clusterId}::uuid and attempt = ${attempt} for update`;
    if (before === undefined) return undefined;
    const isChange = before.state !== state;
    await tx.clusterHealth.update({
      where: { clusterId },
      data: {
        state,
        latencyMs,
        error,
        checkedAt: at,
        ...(isChange ? { since: at } : {}),
        ...(state === 'healthy' ? { lastSuccessAt: at } : {}),
      },
    });
    if (!isChange) return undefined;
    await tx.clusterHealthChange.create({
      data: { clusterId, number: attempt, organisationId, tenantId, state, error, at },
    });
    const [oldest] = await tx.clusterHealthChange.findMany({
      where: { clusterId },
      orderBy: { number: 'desc' },
      skip: keptChanges,
      take: 1,
      select: { number: true },
    });
    if (oldest) await tx.clusterHealthChange.deleteMany({ where: { clusterId, number: { lte: oldest.number } } });
    return before.state;
  });
  if (changed === undefined || (changed === 'unknown' && state === 'healthy')) return;
  log.info(
    { clusterId, orgId: organisationId, tenantId, state, before: changed, reason: error },
    'a cluster changed its state',
  );
}

import { unseenGuard } from '@cdaas/pipeline/conditions.ts';
import { decideDeployment } from '@cdaas/pipeline/deployment-machine.ts';
import { type DeploymentEvent, type DeploymentState, isFinal } from '@cdaas/pipeline/deployment-state.ts';
import { isRecord } from '@cdaas/pipeline/is-record.ts';
import { narrate } from '@cdaas/pipeline/narrate.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import { readDeploymentPlan, readDeploymentState } from '@cdaas/pipeline/stored.ts';
import type { Logger } from 'pino';
import { claimsOf } from './claims.ts';
import type { Clock } from './context.ts';
import { type Database, scoped } from './database/db.ts';
import { type Original, performEffect } from './drivers/effects.ts';
import type { KubeClients } from './drivers/kube-clients.ts';
import type { KubeEvents } from './drivers/kube-events.ts';
import type { Vault } from './encryption.ts';
import { type HandedNews, newestOf, takeHanded } from './handed-news.ts';
import { ownedChanges, previousForm } from './owned-objects.ts';
import { type DrivenDeployment, loadOwned, type UnfoldedEvent } from './ownership.ts';
import type { Claim, Committer, RefusedClaim, Transition } from './transitions.ts';
import type { Watches } from './watches/watches.ts';

/**
 * Drives the deployments that this worker owns (design.md, "Driving"). For each, one loop:
 *
 *   fold news -> decide -> commit (outcome of one effect and intent of the next, one transition) -> perform -> outcome …
 *
 * An intent is committed before its request is sent. A commit that loses its compare-and-set was overtaken by news or by
 * another owner: the row is loaded again, news is folded first, then the outcome is decided anew; if the row is no longer
 * ours, the loop ends and nothing more is sent. A crash anywhere leaves a row that another worker takes over; it treats
 * the effect in flight as lost, so that the cluster is read before anything is sent again.
 */

export type DriveDeps = {
  db: Database;
  committer: Committer;
  clients: KubeClients;
  vault: Vault;
  watches: Watches;
  kubeEvents: Pick<KubeEvents, 'tell'>;
  workerId: number;
  /** The control plane's own id, as on cluster objects. */
  instance: string;
  clock: Clock;
  log: Logger;
  /** A deployment has ended, and its pipeline is due: what depends on it need not wait for the next sweep. */
  ended(): void;
};

/** A wait longer than this releases the row: the sweep takes it up again when its time comes. */
const longWaitMs = 60_000;

/** One deployment in the hands of its owner. */
export type Drive = HandedNews & {
  row: Omit<DrivenDeployment, 'state' | 'news' | 'plan'>;
  /** False once the row was let go: done, or a long wait. */
  owned: boolean;
  state: DeploymentState;
  plan: DeploymentPlan;
  /** Ends the current wait early. */
  poke: () => void;
  /** The cluster answers again, which the state does not know yet. */
  answers: boolean;
  /** Key of the last effect that this worker performed. */
  performed: string | null;
  log: Logger;
};

type Own = { event: DeploymentEvent; originals?: Original[] };

/** Reads what driving a claimed row takes. */
export async function openDrive(deps: DriveDeps, row: DrivenDeployment, log: Logger): Promise<Drive> {
  const { state, news, plan: sealed, ...rest } = row;
  const at = { table: 'deployment', row: row.id, field: 'plan' };
  const plan = readDeploymentPlan(await deps.vault.decryptJson(row.organisationId, at, sealed));
  return {
    row: rest,
    owned: true,
    state: readDeploymentState(state),
    plan,
    news,
    newest: newestOf(news),
    handed: [],
    poke: () => {},
    poked: false,
    answers: false,
    performed: null,
    log,
  };
}

/** Drives until the row is let go: final, a long wait, taken over, or `closing`. @throws what Postgres throws */
export async function driveOn(deps: DriveDeps, drive: Drive, closing: () => boolean): Promise<void> {
  const now = () => deps.clock.now();
  let own: Own[] = openingEvents(drive, now());
  for (;;) {
    takeHanded(drive);
    if (own.length > 0 || drive.news.length > 0) {
      if (!(await commit(deps, drive, own))) return;
      own = [];
    }
    const { state } = drive;
    if (isFinal(state.status) || !drive.owned) return;
    if (state.effect !== null && state.effect.key !== drive.performed) {
      if (closing()) return;
      drive.performed = state.effect.key;
      const performed = await perform(deps, drive);
      if (performed === null) return;
      own = [performed];
      continue;
    }
    if (drive.poked) {
      drive.poked = false;
      if (!(await reload(deps, drive))) return;
      continue;
    }
    if (drive.answers) {
      drive.answers = false;
      const event: DeploymentEvent = { type: 'clusterAnswers', at: now().toISOString() };
      if (isSooner(state, event)) own = [{ event }];
      continue;
    }
    if (closing()) return;
    const due = state.wakeAt === null ? Number.POSITIVE_INFINITY : Date.parse(state.wakeAt);
    const waitMs = due - now().getTime();
    if (waitMs <= 0) own = [{ event: { type: 'due', at: now().toISOString() } }];
    else await sleep(drive, waitMs);
  }
}

/** What a new owner feeds first: the loss of whatever the owner before had in flight. A run not begun has its start as news. */
function openingEvents(drive: Drive, now: Date): Own[] {
  const at = now.toISOString();
  const { state } = drive;
  if (state.startedAt === null) return [];
  if (state.effect !== null) {
    return [{ event: { type: 'lost', at, key: state.effect.key, message: 'the worker that sent it stopped' } }];
  }
  return [{ event: { type: 'due', at } }];
}

function sleep(drive: Drive, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, Math.min(ms, longWaitMs));
    function done() {
      clearTimeout(timer);
      drive.poke = () => {};
      resolve();
    }
    drive.poke = done;
    if (drive.poked || drive.answers || drive.handed.length > 0) done();
  });
}

/**
 * Folds news and our own events in this order, decides, and commits it all as one transition. False: the row is no
 * longer ours.
 */
async function commit(deps: DriveDeps, drive: Drive, own: Own[]): Promise<boolean> {
  let refused: DeploymentEvent | null = null;
  for (;;) {
    let state = drive.state;
    const events: Transition['events'] = [];
    const originals: Original[] = [];
    const tell = (event: DeploymentEvent, before = state) => {
      state = decideDeployment(state, event).state;
      const { type, at, ...data } = event;
      if (isTold(before, event, state))
        events.push({ type, data, at: new Date(at), message: narrate(before, event, state) });
    };
    // A run whose objects are in use never began: what would have begun it is news to a final state.
    if (refused !== null) tell(refused);
    const endedBefore = state.completedAt;
    state = decideDeployment(state, ...drive.news.map(eventOf)).state;
    // Whoever brought the news could not know that it turns the run back, or is the last that was waited for.
    const turned = drive.state.rollBack === null && state.rollBack !== null && !isFinal(state.status);
    const succeeded = endedBefore === null && state.status === 'SUCCEEDED';
    if (turned || succeeded) tell({ type: 'due', at: deps.clock.now().toISOString() }, drive.state);
    for (const { event, originals: saved } of own) {
      // A commit whose answer was lost had its effect: its outcome is folded already and is not told twice.
      if ('key' in event && state.effect?.key !== event.key) continue;
      if (saved && state.at === 'P.survey') originals.push(...saved);
      tell(event);
    }
    const release = isLongWait(state, deps.clock.now());
    const outcome = await deps.committer.commit({
      id: drive.row.id,
      version: drive.row.version,
      owner: deps.workerId,
      state,
      status: state.status,
      phase: state.at.split('.')[0] ?? null,
      wakeAt: state.wakeAt === null ? null : new Date(state.wakeAt),
      done: isFinal(state.status),
      ...(state.startedAt === null ? {} : { startedAt: new Date(state.startedAt) }),
      ...(state.completedAt === null ? {} : { completedAt: new Date(state.completedAt) }),
      release,
      events,
      owned: await ownedChanges(deps.vault, drive.row.organisationId, drive.state, state, originals),
      ...(drive.state.startedAt === null && state.startedAt !== null
        ? { claims: isFinal(state.status) ? [] : await claimsNow(deps, drive) }
        : {}),
      freeClaims: isFinal(state.status),
    });
    if (outcome.won) {
      deps.kubeEvents.tell(drive.row, drive.state, state);
      const isBack = drive.news.some(isSeenAgain);
      drive.news = [];
      drive.state = state;
      drive.row.version = outcome.version;
      drive.newest = outcome.number;
      drive.owned = !release && !isFinal(state.status);
      deps.watches.update(drive.row, drive.state, outcome.number);
      if (isFinal(state.status)) deps.ended();
      if (isBack) await hurry(deps, drive);
      return true;
    }
    if (outcome.refusedClaim) {
      const at = deps.clock.now();
      refused = { type: 'claimRefused', at: at.toISOString(), key: '', message: claimWords(outcome.refusedClaim) };
      continue;
    }
    if (!(await reload(deps, drive))) return false;
  }
}

function eventOf({ type, data, at }: UnfoldedEvent): DeploymentEvent {
  return { ...(data as object), type, at: at.toISOString() } as DeploymentEvent;
}

/** It only spares a wait: where it fails, the client finds out by itself. */
async function hurry({ clients }: DriveDeps, { row, log }: Drive): Promise<void> {
  try {
    (await clients.get(row))?.hurry();
  } catch (err) {
    log.warn({ err }, 'a cluster that is seen again could not be asked at once');
  }
}

/** Whoever watches the cluster may be another worker, to which it answered before it did to this one. */
function isSeenAgain({ type, data }: UnfoldedEvent): boolean {
  return type === 'observed' && isRecord(data) && data.condition === unseenGuard && data.holds === false;
}

/** A timer that found nothing to do is no event worth keeping. */
function isTold(before: DeploymentState, event: DeploymentEvent, after: DeploymentState): boolean {
  return (
    event.type !== 'due' ||
    before.at !== after.at ||
    before.effect?.key !== after.effect?.key ||
    before.status !== after.status
  );
}

/** A cluster that comes and goes must not fill the history of each run with events that change nothing. */
function isSooner(state: DeploymentState, event: DeploymentEvent): boolean {
  return state.retry !== null && decideDeployment(state, event).state.retry?.until !== state.retry.until;
}

function isLongWait(state: DeploymentState, now: Date): boolean {
  if (state.effect !== null || isFinal(state.status)) return false;
  return state.wakeAt === null || Date.parse(state.wakeAt) - now.getTime() > longWaitMs;
}

/** Takes the row as it is stored now, with the news in it. False: it belongs to somebody else. */
async function reload(deps: DriveDeps, drive: Drive): Promise<boolean> {
  const [row] = await loadOwned(deps.db, deps.workerId, [drive.row.id]);
  if (!row) {
    drive.log.info('another worker took this deployment over');
    return false;
  }
  const { state, news, plan: _plan, ...rest } = row;
  drive.row = rest;
  drive.state = readDeploymentState(state);
  drive.news = news;
  drive.newest = newestOf(news);
  return true;
}

async function perform(deps: DriveDeps, drive: Drive): Promise<Own | null> {
  const { row, state, plan } = drive;
  const effect = state.effect;
  if (effect === null) return null;
  const now = () => deps.clock.now();
  const client = await deps.clients.get(row);
  const settings = await deps.clients.settings(row);
  if (!client || !settings) {
    const message = 'the cluster is no longer registered';
    return { event: { type: 'unreachable', at: now().toISOString(), key: effect.key, message } };
  }
  const performed = await performEffect({
    client,
    state,
    plan,
    effect,
    version: row.version,
    instance: deps.instance,
    meshConfirmation: settings.meshConfirmation,
    limits: settings,
    finalAmong: (ids) => finalAmong(deps.db, ids),
    previousForm: (slot) => previousForm(deps.db, deps.vault, row.organisationId, row.id, slot),
    now,
  });
  if (performed.kind === 'superseded') {
    drive.log.warn({ effect: effect.key }, 'a later transition wrote the object: this worker is late and stops');
    return null;
  }
  if (performed.event.type === 'refused' && performed.event.status === 401) deps.clients.invalidate(row);
  return performed;
}

/**
 * What a run that begins takes. Under the id that its cluster goes by now: the settings that are at hand may be from before
 * it was adopted (clusters/change.ts), and then two runs would not meet. It stays while there is a run that has not ended.
 */
async function claimsNow({ db }: DriveDeps, { row, plan }: Drive): Promise<Claim[]> {
  const asked = { where: { id: row.clusterId }, select: { clusterUid: true } };
  const cluster = await scoped(db, row, (tx) => tx.cluster.findUnique(asked));
  return claimsOf(plan, cluster?.clusterUid ?? '');
}

function claimWords(refused: RefusedClaim): string {
  const owner =
    refused.sameTenant && refused.deploymentId !== null ? `deployment ${refused.deploymentId}` : 'another owner';
  return `${refused.kind} ${refused.namespace}/${refused.name} is in use by ${owner}; wait until that is over`;
}

async function finalAmong(db: Database, ids: string[]): Promise<ReadonlySet<string>> {
  const uuids = ids.filter((id) => /^[0-9a-f-]{36}$/.test(id));
  if (uuids.length === 0) return new Set();
  const rows = await db.prisma.deployment.findMany({ where: { id: { in: uuids }, done: true }, select: { id: true } });
  return new Set(rows.map(({ id }) => id));
}

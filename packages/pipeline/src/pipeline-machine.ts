import { assertNever } from './assert-never.ts';
import { type DeploymentStatus, type FinalStatus, isFinal } from './deployment-state.ts';

/**
 * The machine of one pipeline (one start request): which deployments run, what a cancel reaches, and how it ends.
 * Pure, like the deployment's: `decide(state, event) -> { state, effects }`.
 */

export type PipelineStatus =
  | 'QUEUED'
  | 'RUNNING'
  | 'PAUSED'
  | 'AWAITING_APPROVAL'
  | 'SUCCEEDED'
  | 'FAILED'
  | 'CANCELLED';

export const finalPipelineStatuses = ['SUCCEEDED', 'FAILED', 'CANCELLED'] as const satisfies PipelineStatus[];

export function isFinalPipeline(status: string): status is FinalStatus {
  return (finalPipelineStatuses as readonly string[]).includes(status);
}

/**
 * One target of a start. `dependsOn` names the targets of the same start that must have SUCCEEDED before it begins; `told`
 * is what its deployment was told: nothing while it waits, to begin, or that it never will.
 */
export type TargetState = {
  deployment: string;
  target: string;
  dependsOn: string[];
  told: 'start' | 'withdraw' | null;
  ended: FinalStatus | null;
};

export type PipelineState = {
  stateVersion: 2;
  status: 'RUNNING' | FinalStatus;
  /** The start was taken: from then on targets begin whose time has come. */
  begun: boolean;
  cancelledBy: string | null;
  /** In the order of the file. */
  targets: TargetState[];
};

export type PipelineEvent = { at: string } & (
  | { type: 'pipelineStarted' }
  | { type: 'cancelRequested'; by: string }
  | { type: 'targetEnded'; deployment: string; status: FinalStatus }
);

export type PipelineEffect =
  | { kind: 'startDeployment'; deployment: string }
  /** It never begins, because `target`, which it depends on through whatever lies between, ended so. */
  | { kind: 'withdrawDeployment'; deployment: string; target: string; status: 'FAILED' | 'CANCELLED' }
  | { kind: 'cancelDeployment'; deployment: string; by: string };

/** A pipeline that has not begun. What `dependsOn` names must be among the targets, and nothing may depend on itself. */
export function initialPipelineState(
  deployments: readonly { id: string; target: string; dependsOn?: readonly string[] }[],
): PipelineState {
  return {
    stateVersion: 2,
    status: 'RUNNING',
    begun: false,
    cancelledBy: null,
    targets: deployments.map(({ id, target, dependsOn = [] }) => ({
      deployment: id,
      target,
      dependsOn: [...dependsOn],
      told: null,
      ended: null,
    })),
  };
}

/** What version 0.1 stored: targets by deployment id, all of which began at once. */
type StateOfVersion1 = Omit<PipelineState, 'stateVersion' | 'begun' | 'targets'> & {
  targets: Record<string, { target: string; started: boolean; ended: FinalStatus | null }>;
};

/**
 * A stored state as the machine's type; one of an earlier version is brought up to this one.
 *
 * @throws for a version that this code does not know, by its name (design.md, law 10)
 */
export function readPipelineState(stored: unknown): PipelineState {
  const version = typeof stored === 'object' && stored !== null ? Reflect.get(stored, 'stateVersion') : undefined;
  if (version === 2) return stored as PipelineState;
  if (version !== 1) throw new Error(`pipeline state of unknown version ${String(version)}`);
  const { status, cancelledBy, targets } = stored as StateOfVersion1;
  return {
    stateVersion: 2,
    status,
    // It was stored after its start was folded in.
    begun: true,
    cancelledBy,
    targets: Object.entries(targets).map(([deployment, { target, started, ended }]) => ({
      deployment,
      target,
      dependsOn: [],
      told: started ? 'start' : null,
      ended,
    })),
  };
}

/**
 * Decides on one event. Every target whose dependencies have SUCCEEDED is told to begin at once; one whose dependency
 * ended otherwise is told that it never will, and so are those that depend on it.
 */
export function decidePipeline(
  before: PipelineState,
  event: PipelineEvent,
): { state: PipelineState; effects: PipelineEffect[] } {
  if (before.status !== 'RUNNING') return { state: before, effects: [] };
  const state = structuredClone(before);
  const effects: PipelineEffect[] = [];
  switch (event.type) {
    case 'pipelineStarted':
      state.begun = true;
      break;
    case 'cancelRequested':
      if (state.cancelledBy !== null) break;
      state.cancelledBy = event.by;
      for (const { deployment, told, ended } of state.targets) {
        if (ended === null && told !== 'withdraw') effects.push({ kind: 'cancelDeployment', deployment, by: event.by });
      }
      break;
    case 'targetEnded': {
      const target = state.targets.find(({ deployment }) => deployment === event.deployment);
      if (target) target.ended ??= event.status;
      break;
    }
    default:
      return assertNever(event);
  }
  if (state.begun && state.cancelledBy === null) tellWaiting(state, effects);
  state.status = statusOf(state);
  return { state, effects };
}

function tellWaiting(state: PipelineState, effects: PipelineEffect[]): void {
  const targets = byName(state);
  const causes = new Map<string, Cause | null>();
  for (const waiting of state.targets) {
    if (waiting.told !== null || waiting.ended !== null) continue;
    const { deployment } = waiting;
    const cause = causeBefore(targets, waiting, causes);
    if (cause !== null) {
      waiting.told = 'withdraw';
      effects.push({ kind: 'withdrawDeployment', deployment, ...cause });
    } else if (openDependencies(targets, waiting).length === 0) {
      waiting.told = 'start';
      effects.push({ kind: 'startDeployment', deployment });
    }
  }
}

type Targets = ReadonlyMap<string, TargetState>;
type Cause = { target: string; status: 'FAILED' | 'CANCELLED' };

function byName({ targets }: PipelineState): Targets {
  return new Map(targets.map((target) => [target.target, target]));
}

function openDependencies(targets: Targets, { dependsOn }: TargetState): string[] {
  return dependsOn.filter((name) => targets.get(name)?.ended !== 'SUCCEEDED');
}

/**
 * The target, however far before this one, whose end keeps it from ever beginning: the one that ended so first, not those
 * between that never began because of it. `known` holds what was found for others in the same state.
 */
function causeBefore(targets: Targets, of: TargetState, known: Map<string, Cause | null>): Cause | null {
  const found = known.get(of.target);
  if (found !== undefined) return found;
  known.set(of.target, null);
  for (const name of of.dependsOn) {
    const dependency = targets.get(name);
    if (dependency === undefined) continue;
    const { ended } = dependency;
    const own = ended === 'FAILED' || ended === 'CANCELLED' ? { target: name, status: ended } : null;
    const cause = causeBefore(targets, dependency, known) ?? own;
    if (cause === null) continue;
    known.set(of.target, cause);
    return cause;
  }
  return null;
}

/** The targets that a deployment of this pipeline still waits for, by name; none once it began, or where it never will. */
export function waitsFor(state: PipelineState, deployment: string): string[] {
  const waiting = state.targets.find((target) => target.deployment === deployment);
  if (waiting === undefined || waiting.told !== null || waiting.ended !== null || state.cancelledBy !== null) return [];
  return openDependencies(byName(state), waiting);
}

/** FAILED > CANCELLED > SUCCEEDED; a cancelled pipeline is CANCELLED even if its last target finished (design.md, law 4). */
function statusOf(state: PipelineState): PipelineState['status'] {
  const ends = state.targets.map(({ ended }) => ended);
  if (ends.includes(null)) return 'RUNNING';
  if (ends.includes('FAILED')) return 'FAILED';
  if (state.cancelledBy !== null || ends.includes('CANCELLED')) return 'CANCELLED';
  return 'SUCCEEDED';
}

/** What a reader is shown while a pipeline runs: RUNNING if any target works, else what they wait for (behaviour.md §14). */
export function shownPipelineStatus(stored: PipelineStatus, deployments: DeploymentStatus[]): PipelineStatus {
  if (stored !== 'RUNNING') return stored;
  const open = deployments.filter((status) => !isFinal(status));
  const waiting = (status: DeploymentStatus) => status === 'PAUSED' || status === 'AWAITING_APPROVAL';
  if (
    open.length === 0 ||
    !open.every((status) => waiting(status) || status === 'NOT_STARTED' || status === 'WAITING')
  ) {
    return 'RUNNING';
  }
  if (open.includes('AWAITING_APPROVAL')) return 'AWAITING_APPROVAL';
  return open.includes('PAUSED') ? 'PAUSED' : 'RUNNING';
}

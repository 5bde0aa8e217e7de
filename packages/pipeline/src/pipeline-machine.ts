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

export type PipelineState = {
  stateVersion: 1;
  status: 'RUNNING' | FinalStatus;
  cancelledBy: string | null;
  /** By deployment id. `started`: it was told to begin. */
  targets: Record<string, { target: string; started: boolean; ended: FinalStatus | null }>;
};

export type PipelineEvent = { at: string } & (
  | { type: 'pipelineStarted' }
  | { type: 'cancelRequested'; by: string }
  | { type: 'targetEnded'; deployment: string; status: FinalStatus }
);

export type PipelineEffect =
  | { kind: 'startDeployment'; deployment: string }
  | { kind: 'cancelDeployment'; deployment: string; by: string };

export function initialPipelineState(deployments: { id: string; target: string }[]): PipelineState {
  return {
    stateVersion: 1,
    status: 'RUNNING',
    cancelledBy: null,
    targets: Object.fromEntries(deployments.map(({ id, target }) => [id, { target, started: false, ended: null }])),
  };
}

/**
 * A stored state as the machine's type.
 *
 * @throws for a version that this code does not know, by its name (design.md, law 10)
 */
export function readPipelineState(stored: unknown): PipelineState {
  const version = typeof stored === 'object' && stored !== null ? Reflect.get(stored, 'stateVersion') : undefined;
  if (version !== 1) throw new Error(`pipeline state of unknown version ${String(version)}`);
  return stored as PipelineState;
}

export function decidePipeline(
  before: PipelineState,
  event: PipelineEvent,
): { state: PipelineState; effects: PipelineEffect[] } {
  if (before.status !== 'RUNNING') return { state: before, effects: [] };
  const state = structuredClone(before);
  const effects: PipelineEffect[] = [];
  switch (event.type) {
    case 'pipelineStarted':
      for (const [deployment, target] of Object.entries(state.targets)) {
        if (target.started || state.cancelledBy !== null) continue;
        target.started = true;
        effects.push({ kind: 'startDeployment', deployment });
      }
      break;
    case 'cancelRequested':
      if (state.cancelledBy !== null) break;
      state.cancelledBy = event.by;
      for (const [deployment, target] of Object.entries(state.targets)) {
        if (target.ended === null) effects.push({ kind: 'cancelDeployment', deployment, by: event.by });
      }
      break;
    case 'targetEnded': {
      const target = state.targets[event.deployment];
      if (target) target.ended ??= event.status;
      break;
    }
    default:
      return assertNever(event);
  }
  state.status = statusOf(state);
  return { state, effects };
}

/** FAILED > CANCELLED > SUCCEEDED; a cancelled pipeline is CANCELLED even if its last target finished (design.md, law 4). */
function statusOf(state: PipelineState): PipelineState['status'] {
  const ends = Object.values(state.targets).map(({ ended }) => ended);
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

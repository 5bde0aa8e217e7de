import type { DeploymentState, Slot } from './deployment-state.ts';
import { isRecord } from './is-record.ts';
import type { DeploymentPlan } from './plan.ts';

/**
 * Plans and states as earlier releases stored them, read as today's: a run that was in progress goes on where it was.
 * Version 1 knew one Deployment and one root Service a target, so that its slots and instructions had no index.
 */

/**
 * A stored state as the machine's type.
 *
 * @throws for a version that this code does not know, by its name (design.md, law 10)
 */
export function readDeploymentState(stored: unknown): DeploymentState {
  const version = isRecord(stored) ? stored.stateVersion : undefined;
  if (version === 2) return { ...undisturbed, ...(stored as DeploymentState) };
  if (version === 1) return stateFrom1(stored as StateOf1);
  throw new Error(`deployment state of unknown version ${String(version)}`);
}

/** A stored plan as the machine's type. */
export function readDeploymentPlan(stored: unknown): DeploymentPlan {
  if (!isRecord(stored) || !('workload' in stored)) return stored as DeploymentPlan;
  return listed(stored as PlanOf1) as unknown as DeploymentPlan;
}

/** The name that version 1 gave to a slot of today. */
export function slotIn1(slot: string): string {
  const [part = slot, index] = slot.split('.');
  return index === '0' && slotsOf1.includes(part) ? part : slot;
}

export function slotFrom1(slot: string): Slot {
  return (slotsOf1.includes(slot) ? `${slot}.0` : slot) as Slot;
}

const slotsOf1 = ['root', 'canary', 'split', 'newReplicaSet', 'oldReplicaSet'];

type PlanOf1 = { workload: unknown; route: unknown };
type SlottedOf1 = { slot: string };
type StateOf1 = Omit<DeploymentState, 'stateVersion' | 'hashes' | 'outline' | 'routes' | 'survey' | 'undo'> & {
  hash: string;
  outline: PlanOf1;
  pinned: DeploymentState['routes'][number]['pinned'];
  weights: DeploymentState['routes'][number]['weights'];
  confirmed: DeploymentState['routes'][number]['confirmed'];
  diverted: boolean;
  survey: (Record<string, unknown> & { mode: 'first' | 'canary'; leftovers: SlottedOf1[] }) | null;
  undo: (Record<string, unknown> & { newReplicaSet: boolean; changed: number[] }) | null;
};

function listed<Plan extends PlanOf1>({ workload, route, ...rest }: Plan) {
  return { ...rest, workloads: [workload], routes: [route] };
}

function stateFrom1(stored: StateOf1): DeploymentState {
  const { hash, outline, pinned, weights, confirmed, diverted, survey, undo, ...rest } = stored;
  const first = survey?.mode === 'first';
  const state = {
    ...rest,
    stateVersion: 2,
    hashes: [hash],
    outline: listed(outline),
    at: idFrom1(rest.at, first),
    effect: rest.effect && effectFrom1(rest.effect, first),
    doubt: rest.doubt && effectFrom1(rest.doubt, first),
    inTheWay: rest.inTheWay && slotted(rest.inTheWay),
    survey: survey && surveyFrom1(survey),
    objects: Object.fromEntries(Object.entries(rest.objects).map(([slot, tracked]) => [slotFrom1(slot), tracked])),
    observed: Object.fromEntries(Object.entries(rest.observed).map(([key, seen]) => [idFrom1(key, first), seen])),
    routes: [{ pinned, weights, confirmed, diverted }],
    undo: undo && undoFrom1(undo),
    ...undisturbed,
  };
  return state as unknown as DeploymentState;
}

/** What states do not have that were stored before others' changes were put back. */
const undisturbed: Pick<DeploymentState, 'disturbed' | 'mending' | 'fights' | 'frozen'> = {
  disturbed: [],
  mending: null,
  fights: [],
  frozen: [],
};

function slotted<Entry extends SlottedOf1>(entry: Entry) {
  return { ...entry, slot: slotFrom1(entry.slot) };
}

/** Ids of instructions, and keys of conditions, which are ids or `guard.<what>`. */
function idFrom1(id: string, first: boolean): string {
  if (first && id === 'S5.wait') return 'S5.pods.0';
  const same = /^(end|(P|P0|step|S1\.survey)\b.*|R6\..*|.*\.drain)$/.test(id);
  return same ? id : `${id}.0`;
}

function effectFrom1(effect: object, first: boolean): object {
  const { slot, condition } = effect as { slot?: string; condition?: { key: string } };
  if (condition) return { ...effect, condition: { ...condition, key: idFrom1(condition.key, first) } };
  return slot === undefined ? effect : { ...effect, slot: slotFrom1(slot) };
}

function surveyFrom1(survey: NonNullable<StateOf1['survey']>): object {
  const { mode, old, root, canary, leftovers, ...rest } = survey;
  return {
    ...rest,
    workloads: [{ mode, old }],
    routes: [{ root, canary }],
    pairs: [0],
    leftovers: leftovers.map(slotted),
  };
}

function undoFrom1({ newReplicaSet, changed, ...route }: NonNullable<StateOf1['undo']>): object {
  return { routes: [{ ...route, starved: false }], newReplicaSets: [newReplicaSet], changed };
}

import type { FieldWriter } from './field-managers.ts';
import type { HeldChange } from './held.ts';
import type { ObjectRef } from './kubernetes.ts';
import { type DeploymentPlan, keptLabelsOf, type SmiRoute, type StrategyStep, type Workload } from './plan.ts';

/**
 * The data of one deployment's run: its state, the events that move it and the effects it asks for. Everything here is
 * JSON and holds no secret: manifests stay in the encrypted plan, and effects name objects by slot.
 */

export const deploymentStatuses = [
  'NOT_STARTED',
  'WAITING',
  'RUNNING',
  'PAUSED',
  'AWAITING_APPROVAL',
  'FINISHING',
  'ROLLING_BACK',
  'SUCCEEDED',
  'FAILED',
  'CANCELLED',
] as const;
export type DeploymentStatus = (typeof deploymentStatuses)[number];

export const finalDeploymentStatuses = ['SUCCEEDED', 'FAILED', 'CANCELLED'] as const satisfies DeploymentStatus[];
export type FinalStatus = (typeof finalDeploymentStatuses)[number];

export function isFinal(status: DeploymentStatus): status is FinalStatus {
  return (finalDeploymentStatuses as readonly string[]).includes(status);
}

/** The plan without its manifests: all that deciding needs. */
export type Outline = Pick<
  DeploymentPlan,
  'application' | 'target' | 'account' | 'namespace' | 'steps' | 'readyTimeoutSeconds' | 'drainSeconds'
> & {
  /** `keptLabels`: see `keptLabelsOf`; present where the Deployment object is kept. */
  workloads: (Pick<Workload, 'name' | 'replicas'> & { keptLabels?: Record<string, string> })[];
  routes: SmiRoute[];
  /** The plan's `objects`, by reference, in the same order. */
  objects: ObjectRef[];
};

export function outlineOf(plan: DeploymentPlan): Outline {
  const { application, target, account, namespace, steps, readyTimeoutSeconds, drainSeconds, routes } = plan;
  return {
    application,
    target,
    account,
    namespace,
    steps,
    readyTimeoutSeconds,
    drainSeconds,
    routes,
    workloads: plan.workloads.map((workload) => ({
      name: workload.name,
      replicas: workload.replicas,
      ...(plan.keepDeploymentObject ? { keptLabels: keptLabelsOf(workload) } : {}),
    })),
    objects: plan.objects.map(({ apiVersion, kind, metadata }) => ({
      apiVersion,
      kind,
      ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
      name: metadata.name,
    })),
  };
}

/**
 * An object of the run by its part in it, and which one of its kind: `root`, `canary` and `split` of the i-th route,
 * ReplicaSets and Deployment object of the i-th workload, the i-th ReplicaSet that Deployment objects leave behind
 * (`freedReplicaSets`), the plan's i-th other object.
 */
export type Slot = `${Part}.${number}`;
export type Part = 'root' | 'canary' | 'split' | 'newReplicaSet' | 'oldReplicaSet' | 'deployment' | 'freed' | 'object';

export function partOf(slot: Slot): { part: Part; index: number } {
  const [part, index] = slot.split('.') as [Part, string];
  return { part, index: Number(index) };
}

/** An object as the cluster last answered it, and what this run did to it. */
export type Tracked = { uid: string; resourceVersion: string; made: 'created' | 'changed' | null };

export type Weights = { stable: number; canary: number };

export type StepState = {
  status: 'NOT_STARTED' | 'RUNNING' | 'PAUSED' | 'AWAITING_APPROVAL' | 'SUCCEEDED' | 'FAILED' | 'CANCELLED';
  startedAt?: string;
  completedAt?: string;
  approvedBy?: string;
};

/** What a preflight found (design: "Preflight P"). `problems` fail the target; the rest is what the run builds on. */
export type Survey = {
  problems: Problem[];
  /** It could not look: the problems say why, and nothing else is known. */
  blind?: true;
  warnings: string[];
  /** By workload. */
  workloads: SurveyedWorkload[];
  /** By route. `canary`: a canary Service that the file names; null where this run creates one. */
  routes: { root: Tracked | null; canary: Tracked | null }[];
  /** By route: the index of the workload whose pods its root Service selects. */
  pairs: number[];
  /** The plan's objects that exist already, by index. */
  existing: { index: number; uid: string; resourceVersion: string }[];
  /** Objects of a finished deployment of ours that stand in the way. */
  leftovers: { slot: Slot; uid: string; resourceVersion: string }[];
  /** API version of TrafficSplit to write, e.g. `split.smi-spec.io/v1alpha2`. */
  splitApiVersion: string;
  /** The cluster takes the weights of a TrafficSplit only as strings. */
  stringWeights?: true;
  meshConfirmation: MeshConfirmation;
};

/**
 * `first`: there is no earlier version with pods, so the new one goes straight to 100 %. `adopt`: the same, and a Deployment
 * object that is not ours is taken over. `canary` with a Deployment object: one that an earlier run kept.
 */
export type SurveyedWorkload = {
  mode: 'first' | 'canary' | 'adopt';
  old: OldVersion | null;
  deployment?: FoundDeployment;
};

/** A Deployment object of a workload's name, and the ReplicaSets that it controls, without the previous version's. */
export type FoundDeployment = {
  uid: string;
  resourceVersion: string;
  /** A fingerprint of what it asks for, the number of pods aside: another one means that somebody changed it. */
  form: string;
  /** Who wrote it last, by the name of the field manager. */
  manager: string;
  /** Whether the previous version's ReplicaSet is one that it controls. */
  ownsOld: boolean;
  replicaSets: { name: string; uid: string; resourceVersion: string; replicas: number }[];
};

/** The ReplicaSet of the previous version, and its pods when the run began. */
export type OldVersion = {
  name: string;
  hash: string;
  uid: string;
  resourceVersion: string;
  pods: number;
  ready: number;
  /** Those of its own labels by which a Deployment controller would take it over, where it has any. */
  labels?: Record<string, string>;
  /** The run that is to mark it, where no run has: a Deployment that is kept made it, and the watches see only what is marked. */
  mark?: string;
};

export type MeshConfirmation = 'linkerd-smi' | 'stored';

/** `object` names what is in the way, e.g. `Service shop/web`. */
export type Problem = { object: string; message: string };

/** What a write changes; its body is rendered from the plan when it is sent. */
export type Change =
  | { op: 'create' }
  | { op: 'apply' }
  | { op: 'weights'; weights: Weights }
  | { op: 'pin'; hash: string }
  | { op: 'unpin' }
  | { op: 'scale'; replicas: number }
  | { op: 'restore' }
  /** Labels of the object itself; null takes one off. */
  | { op: 'label'; labels: Record<string, string | null> }
  /** Ends the pause that a Deployment object is created with. */
  | { op: 'resume' }
  /** `orphan`: what it owns stays. */
  | { op: 'delete'; orphan?: true };

/** One call to the cluster. `key` names it within the run; a write carries the preconditions it is committed with. */
export type Effect =
  | { kind: 'survey'; key: string }
  | { kind: 'read'; key: string; slot: Slot }
  | { kind: 'check'; key: string; condition: Condition }
  | { kind: 'write'; key: string; slot: Slot; change: Change; uid?: string; resourceVersion?: string };

export type WriteEffect = Extract<Effect, { kind: 'write' }>;

/** What the machine needs to know of an object that the cluster answered. */
export type ObjectFacts = {
  uid: string;
  resourceVersion: string;
  /** The deployment that drives it, by the label `cdaas/deployment`. */
  deployment: string | null;
  /** The deployment that applied it last, by the annotation `deploy.armory.io/deployment-id`. */
  appliedBy: string | null;
  /** It carries the fence of some deployment. */
  fenced?: boolean;
  weights?: Weights | null;
  /** Value of the hash key in a Service's selector. */
  pin?: string | null;
  replicas?: number;
  /** Who beside this control plane wrote last what the run holds of it; told of objects that are looked at for that. */
  writer?: FieldWriter | null;
  /** Of a ReplicaSet: its own labels, and the uid of the Deployment that controls it. */
  labels?: Record<string, string>;
  controller?: string | null;
  /** Of a Deployment, as in FoundDeployment. */
  form?: string;
  manager?: string;
  paused?: boolean;
  /** Of a Deployment or ReplicaSet: a fingerprint of the pods that it asks for. */
  template?: string;
  /** It has been deleted, and is still there for a moment. */
  deleting?: true;
};

/**
 * Something about the cluster that the run waits for or must hear of. Evaluated by the owner of the cluster's watches;
 * `key` is the instruction that waits, or `guard.<what>`.
 */
export type Condition = {
  key: string;
  namespace: string;
} /** `amongOthers`: pods of other versions may be behind it as well. */ & (
  | { kind: 'endpoints'; service: string; hash: string; ready: number | null; amongOthers?: true }
  | { kind: 'enough'; service: string; hash: string; atLeast: number; other: { service: string; hash: string } }
  | { kind: 'podsReady'; hash: string; ready: number }
  | { kind: 'gone'; replicaSet: string; hash: string }
  /** Its controller has taken note of what is asked of it. */
  | { kind: 'noted'; replicaSet: string }
  /** `orNone`: a mesh without weights sends everything to root, which is as good. */
  | { kind: 'mesh'; root: string; canary: string; weights: Weights; orNone?: true }
  | { kind: 'meshDropped'; root: string }
  /**
   * An object that the run holds is not as it left it. `mark`: the deployment in whose name it must be marked, null for
   * nobody's; `resourceVersion`: of the run's last answer, older views of it say nothing.
   */
  | {
      kind: 'changed';
      slot: Slot;
      object: { apiVersion: string; kind: HeldKind; name: string };
      want: HeldChange;
      mark: string | null;
      route: SmiRoute | null;
      uid: string;
      resourceVersion: string;
    }
  | { kind: 'starved'; service: string; hash: string }
  /** No Deployment object of that name; `uid`: none with that uid. */
  | { kind: 'noDeployment'; deployment: string; uid?: string }
  /** A Deployment object of that name which is neither the one with that uid nor made by the deployment `run`. */
  | { kind: 'intruder'; deployment: string; uid: string | null; run: string }
  /**
   * A Deployment object of another name, and not made by `run`, that would take a ReplicaSet with these labels for its own;
   * `but`: names that say nothing here.
   */
  | { kind: 'claimant'; replicaSet: string; labels: Record<string, string>; but: readonly string[]; run: string }
  /** The same of one with pods that the Service would send traffic to once it is not pinned. */
  | { kind: 'sharer'; service: string; but: readonly string[]; run: string }
  /** No pod but those of `hash` is selected by what people wrote as the Service's selector. Told by asking only. */
  | { kind: 'noStrangers'; service: string; hash: string }
  /** A ReplicaSet without pods; one that is not there is not empty. */
  | { kind: 'empty'; replicaSet: string }
  /**
   * The Deployment object controls the ReplicaSet, takes it for its newest and wants no other pods, nor too few. `asked`:
   * another number is people's doing, and said.
   */
  | { kind: 'adopted'; deployment: string; replicaSet: string; atLeast?: number; asked?: number }
  | { kind: 'short'; service: string; hash: string; ready: number }
  /** The cluster can neither be watched nor asked, so that nothing is known of what happens there. */
  | { kind: 'unseen' }
);

/** The version of the object in which a condition was seen to hold. */
export type Sighted = { uid: string; resourceVersion: string };

/** Kinds of objects that a run holds. */
export type HeldKind = 'Service' | 'TrafficSplit' | 'ReplicaSet';

/** `seen`: tells two sights of the same from each other, where that matters. */
export type Observation = { holds: boolean; detail: string; at: string; object?: Sighted; seen?: string };

export type RollBack = {
  reason: string;
  outcome: 'FAILED' | 'CANCELLED';
  by?: string;
};

export type Undo = {
  /** By route. */
  routes: {
    split: boolean;
    /** A weight above 0 was asked for, so that traffic may be on the new version. */
    shifted: boolean;
    /** It had traffic on the new version and no ready pod there: it goes first. */
    starved: boolean;
    canary: 'created' | 'pinned' | null;
    rootPinned: boolean;
  }[];
  /** By workload. */
  newReplicaSets: boolean[];
  /**
   * By workload: the Deployment object that an earlier run kept is gone, and labels were taken off the old ReplicaSet.
   * Absent where there was none of either.
   */
  deployments?: { removed: boolean; unlabelled: boolean }[];
  /** The plan's objects that this run changed, by index. */
  changed: number[];
};

/** An object that others change again and again, or that cannot be put back: weights stay as they are until people decide. */
export type Frozen = { slot: Slot; at: string; detail: string };

/** What a run did to the traffic of one route. */
export type RouteState = {
  /** The Services whose selector holds our hash key. */
  pinned: { root: boolean; canary: boolean };
  /** The weights in the TrafficSplit as the cluster last answered it. */
  weights: Weights | null;
  /** The weights that the mesh has taken as well: those that traffic follows. */
  confirmed: Weights | null;
  /** R1 gave up on the mesh and led the canary Service to the old pods. */
  diverted: boolean;
};

/** Reason of a refusal that no right would change: quota, a policy, a webhook, a namespace on its way out. */
export const deniedByAdmission = 'DeniedByAdmission';

/** `at`: when it happened by Postgres' clock, ISO 8601 with milliseconds. */
export type DeploymentEvent = { at: string } & (
  | { type: 'started' }
  | { type: 'surveyed'; key: string; survey: Survey }
  | { type: 'written'; key: string; object: ObjectFacts | null }
  /** The cluster answered no; `reason` is its word for why, or `deniedByAdmission`. */
  | { type: 'refused'; key: string; status: number; reason: string; message: string; retryAfterSeconds?: number }
  /** The request may or may not have had its effect. */
  | { type: 'lost'; key: string; message: string }
  /** The request was certainly not carried out, or a read failed. */
  | { type: 'unreachable'; key: string; message: string }
  | { type: 'found'; key: string; object: ObjectFacts | null; leftover: boolean }
  | { type: 'checked'; key: string; holds: boolean; detail: string; object?: Sighted }
  | { type: 'observed'; condition: string; holds: boolean; detail: string; object?: Sighted; seen?: string }
  /** A cluster that was away answered whoever asked. */
  | { type: 'clusterAnswers' }
  /** An object of this run belongs to another deployment in progress. */
  | { type: 'claimRefused'; key: string; message: string }
  | { type: 'approved'; ref: string; by: string }
  | { type: 'rollBackRequested'; by: string }
  /** A person lets frozen weights move again. */
  | { type: 'resumed'; by: string }
  | { type: 'cancelRequested'; by: string }
  /** A target that this one depends on did not succeed: this one never begins. */
  | { type: 'dependencyFailed'; target: string; status: 'FAILED' | 'CANCELLED' }
  /** The moment that the run waited for has come. */
  | { type: 'due' }
);

export type DeploymentState = {
  stateVersion: 2;
  id: string;
  /** Value of `armory-pod-template-hash` for the new version, by workload. */
  hashes: string[];
  outline: Outline;
  status: DeploymentStatus;
  track: 'forward' | 'rollBack';
  /** Id of the instruction being carried out, e.g. `S2.pin.0`. */
  at: string;
  /** When that instruction began. */
  since: string;
  steps: StepState[];
  /** The effect in flight: committed, perhaps sent, outcome not yet recorded. */
  effect: Effect | null;
  /** Calls to the cluster so far; the last part of an effect's key. */
  calls: number;
  /** A write whose outcome is not known; the cluster is read before it is sent again. */
  doubt: WriteEffect | null;
  /**
   * The resourceVersion of a write that had no effect when the cluster was read, but may still arrive: only a change of
   * the object refuses it for good. Kept for writes that a roll back would not overwrite by itself.
   */
  unsettled: string | null;
  /** Calls in a row that did not succeed, and the earliest moment of the next. */
  retry: { count: number; until: string; message: string } | null;
  /** 409 answers in a row to the current write. */
  conflicts: number;
  /** Since when calls to the cluster have failed, without a success in between. */
  heldSince: string | null;
  /** An object of a finished deployment that stands where one is to be created, to be deleted first. */
  inTheWay: { slot: Slot; uid: string; resourceVersion: string } | null;
  /** The current write was looked for and is not in force. */
  looked: boolean;
  /** Which of the writes that the current wait follows from is looked at next. */
  turn: number;
  /** When the current wait is next checked by asking the cluster, in case its watch is silent. */
  checkAt: string | null;
  survey: Survey | null;
  /** When the first preflight began to read, as long as there was no second one. */
  lookedSince?: string;
  objects: Partial<Record<Slot, Tracked>>;
  /** By ReplicaSet that a Deployment object is to stand over: a fingerprint of the pods that it asks for. */
  templates?: Partial<Record<Slot, string>>;
  routes: RouteState[];
  /** The point of no return is passed: the first write of F2 (or, without a split, of F6) is in force. */
  noReturn: boolean;
  observed: Record<string, Observation>;
  /** Held objects that are said to have been changed by others and that were not looked at yet. */
  disturbed: Slot[];
  /** The one that is being looked at and put back; `write`: it was looked at, and is written next. */
  mending: { slot: Slot; write: boolean; tries: number } | null;
  /** What was put back in the last minute, and the resourceVersion that others had left it at. */
  fights: { slot: Slot; at: string; seen: string }[];
  frozen: Frozen[];
  /** Set by a trip or a person; begun as soon as no write is in doubt. */
  rollBack: RollBack | null;
  /** What stood when the roll back began; it acts only on that. */
  undo: Undo | null;
  warnings: string[];
  leftInCluster: string[];
  error: string | null;
  /** The latest moment at which somebody must look again; null: only an event can help. */
  wakeAt: string | null;
  startedAt: string | null;
  completedAt: string | null;
};

/**
 * What a forward programme follows from. Each is replaced, never changed in place: states that follow each other share
 * them, and what was derived from them once is kept.
 */
export type Ground = Pick<DeploymentState, 'outline' | 'hashes' | 'survey'>;

/**
 * A deployment that has not begun. `hashes`: by workload, 10 characters [a-z0-9] of SHA-256(deployment id, Deployment
 * name).
 */
export function initialState(id: string, hashes: string[], plan: DeploymentPlan): DeploymentState {
  const outline = outlineOf(plan);
  return {
    stateVersion: 2,
    id,
    hashes,
    outline,
    status: 'NOT_STARTED',
    track: 'forward',
    at: 'P.survey',
    since: '',
    steps: outline.steps.map((): StepState => ({ status: 'NOT_STARTED' })),
    effect: null,
    calls: 0,
    doubt: null,
    unsettled: null,
    retry: null,
    conflicts: 0,
    heldSince: null,
    inTheWay: null,
    looked: false,
    turn: 0,
    checkAt: null,
    survey: null,
    objects: {},
    routes: outline.routes.map(
      (): RouteState => ({
        pinned: { root: false, canary: false },
        weights: null,
        confirmed: null,
        diverted: false,
      }),
    ),
    noReturn: false,
    observed: {},
    disturbed: [],
    mending: null,
    fights: [],
    frozen: [],
    rollBack: null,
    undo: null,
    warnings: [],
    leftInCluster: [],
    error: null,
    wakeAt: null,
    startedAt: null,
    completedAt: null,
  };
}

/** Name of the ReplicaSet that a run makes of its i-th workload. */
export function newReplicaSetName({ outline, hashes }: Pick<DeploymentState, 'outline' | 'hashes'>, index: number) {
  return `${outline.workloads[index]?.name}-${hashes[index]}`;
}

/** Whether a strategy step shifts traffic. */
export function isSetWeight(step: StrategyStep | undefined): step is Extract<StrategyStep, { kind: 'setWeight' }> {
  return step?.kind === 'setWeight';
}

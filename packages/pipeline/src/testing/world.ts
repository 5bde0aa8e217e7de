import { activeConditions, evaluate, isTurn } from '../conditions.ts';
import { decideDeployment } from '../deployment-machine.ts';
import {
  type DeploymentEvent,
  type DeploymentState,
  type Effect,
  initialState,
  isFinal,
  partOf,
  type Slot,
  type WriteEffect,
} from '../deployment-state.ts';
import { entryAt } from '../entry-at.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { deploymentKey, instanceKey } from '../marks.ts';
import type { DeploymentPlan, SmiRoute } from '../plan.ts';
import { survey } from '../preflight.ts';
import { type ClusterWrite, factsOf, refOf, renderWrite } from '../render.ts';
import { slotOfObject } from '../slot-of-object.ts';
import { frozen } from './frozen.ts';
import {
  type Answer,
  createModelCluster,
  formOf,
  get,
  type ModelCluster,
  performWrite,
  remove,
  surroundingsOf,
  viewOf,
} from './model-cluster.ts';
import {
  deleteSplitByOthers,
  publishEndpoints,
  runAdaptor,
  runReplicaSets,
  scaleByOthers,
  setReady,
  setWeightsByOthers,
  unlabelByOthers,
  unpinByOthers,
  weightsInForce,
} from './model-controllers.ts';
import { changeDeployment, makeDeploymentByOthers, removeWithOwned, runDeployments } from './model-deployments.ts';
import { hashesOf, instance, newId, oldId, type SampleOptions, sampleObjects, samplePlan } from './samples.ts';

/**
 * One deployment and its cluster, moved by actions: whatever a driver, a network, a cluster or a person may do next.
 * `act` is pure, so that an exploration can try every action in every state.
 */
export type Setup = {
  plan: DeploymentPlan;
  mesh: 'linkerd-smi' | 'stored';
  pairs: SetupPair[];
  /** The cluster's objects before the run. */
  objects: KubernetesObject[];
  /** The written form of every object before the run, by `<kind>/<name>`. */
  before: Record<string, string | null>;
};

/** A route with the workload behind it. `first`: no earlier version of that runs. */
export type SetupPair = {
  index: number;
  route: SmiRoute;
  workload: number;
  deployment: string;
  replicas: number;
  newHash: string;
  oldHash: string;
  first: boolean;
  /** The Deployment object that stands there. */
  object: 'plain' | 'kept' | null;
};

export type World = {
  state: DeploymentState;
  cluster: ModelCluster;
  /** Of the row: one more with each commit. */
  version: number;
  clock: number;
  /** When the weights that traffic follows changed last, by route. */
  shiftedAt: number[];
  /** Requests that a stopped worker or a slow network still holds, as they were rendered. */
  late: ClusterWrite[];
  /** Saved forms of objects, for a restore. */
  saved: Partial<Record<Slot, KubernetesObject>>;
  /** Observations that were made and not yet told. */
  news: DeploymentEvent[];
  /** Pods failed or other people changed something: what traffic then loses is not of our making. */
  disturbed: boolean;
  /** Somebody made a Deployment object, at whatever time. */
  intruded: boolean;
  /** Kinds of objects that late copies of creates brought after all. */
  lateCreates: string[];
};

export type How = 'ok' | 'lostApplied' | 'lostNotApplied' | 'serverError' | 'unreachable' | 'forbidden' | 'throttled';

export type Action =
  | { do: 'start' | 'due' | 'approve' | 'rollBack' | 'cancel' | 'resume' }
  | { do: 'perform'; how: How }
  | { do: 'arrive' }
  | { do: 'pods' | 'endpoints' | 'mesh' | 'settle' }
  | { do: 'look' | 'tell' }
  /** An event that was told before is told once more. */
  | { do: 'again'; event: DeploymentEvent }
  /** `pair`: its index, 0 where it is absent; counted on from the first after the last. */
  | { do: 'kill'; hash: 'new' | 'old'; count: number; pair?: number }
  | { do: 'edit'; what: Edit; pair?: number }
  /** Of the Deployment object: somebody applies one, deletes it, rolls another image out, scales it. */
  | { do: 'deployment'; what: 'make' | 'remove' | 'image' | 'scale'; pair?: number };

/** What others do to the objects that a run holds. `unlabel`: our label is taken off the root Service. */
export const edits = [
  'unpin',
  'unlabel',
  'deleteSplit',
  'replaceSplit',
  'weights',
  'unpinCanary',
  'deleteCanary',
  'scaleNew',
  'scaleOld',
  'deleteOld',
] as const;
export type Edit = (typeof edits)[number];

/** What an action did, for the laws. */
export type Happened = {
  /** The request that was rendered for the effect in flight, whether or not it arrived. */
  write?: { effect: WriteEffect; request: ClusterWrite; stored: KubernetesObject | undefined };
  events: DeploymentEvent[];
};

export function createSetup(options: SampleOptions & { mesh?: Setup['mesh'] }): Setup {
  const plan = samplePlan(options);
  const { mesh = 'linkerd-smi', first = false } = options;
  const objects = sampleObjects(options);
  const settled = createModelCluster(objects);
  settle(settled);
  const made = ['Pod', 'EndpointSlice', 'ServiceProfile'];
  const before = Object.fromEntries(
    Object.entries(settled.objects)
      .filter(([, { kind }]) => !made.includes(kind))
      .map(([key, object]) => [key, formOf(object)] as const),
  );
  const pairs = plan.routes.map((route, index): SetupPair => {
    const pair = options.pairs?.[index];
    const deployment = pair?.deployment ?? 'web';
    const workload = plan.workloads.findIndex(({ name }) => name === deployment);
    const hashes = hashesOf(deployment);
    return {
      index,
      route,
      workload,
      deployment,
      replicas: options.replicas ?? 2,
      newHash: hashes.new,
      oldHash: hashes.old,
      first: first || pair?.first === true || pair?.object === 'plain',
      object: pair?.object ?? null,
    };
  });
  return { plan, mesh, pairs, objects, before };
}

export function createWorld(setup: Setup): World {
  const cluster = createModelCluster(setup.objects);
  settle(cluster);
  const hashes = setup.plan.workloads.map(({ name }) => hashesOf(name).new);
  return {
    state: initialState(newId, hashes, setup.plan),
    cluster,
    version: 1,
    clock: Date.parse('2026-01-01T00:00:00.000Z'),
    shiftedAt: setup.pairs.map(() => 0),
    late: [],
    saved: {},
    news: [],
    disturbed: false,
    intruded: false,
    lateCreates: [],
  };
}

/** Everything in the cluster catches up, pods become ready. */
export function settle(cluster: ModelCluster): void {
  for (let rounds = 0, revision = -1; rounds < 10 && revision !== cluster.revision; rounds += 1) {
    revision = cluster.revision;
    runDeployments(cluster);
    runReplicaSets(cluster);
    setReady(cluster, null, true);
  }
  publishEndpoints(cluster);
  runAdaptor(cluster);
}

/** The world after an action; null where the action is not possible or would change nothing. */
export function act(setup: Setup, before: World, action: Action): { world: World; happened: Happened } | null {
  // Objects are replaced, never changed in place.
  const world: World = { ...before, cluster: { ...before.cluster, objects: { ...before.cluster.objects } } };
  const happened: Happened = { events: [] };
  const fold = (event: DeploymentEvent) => {
    happened.events.push(event);
    // A state that was stored, or that another world goes on from, is nobody's to change.
    world.state = frozen(decideDeployment(world.state, event).state);
    world.version += 1;
  };
  const at = new Date(world.clock).toISOString();
  const { state } = world;
  switch (action.do) {
    case 'start':
      if (state.startedAt !== null) return null;
      fold({ type: 'started', at });
      break;
    case 'due': {
      if (state.effect !== null || state.wakeAt === null || isFinal(state.status)) return null;
      world.clock = Math.max(world.clock, Date.parse(state.wakeAt));
      fold({ type: 'due', at: new Date(world.clock).toISOString() });
      break;
    }
    case 'approve': {
      const index = state.steps.findIndex(({ status }) => status === 'AWAITING_APPROVAL');
      if (index === -1) return null;
      fold({ type: 'approved', at, ref: `canary-step-${index + 1}`, by: 'someone' });
      break;
    }
    case 'rollBack':
      fold({ type: 'rollBackRequested', at, by: 'someone' });
      break;
    case 'cancel':
      fold({ type: 'cancelRequested', at, by: 'someone' });
      break;
    case 'resume':
      if (state.frozen.length === 0) return null;
      fold({ type: 'resumed', at, by: 'someone' });
      break;
    case 'perform': {
      if (state.effect === null) return null;
      const event = perform(setup, world, state.effect, action.how, at, happened);
      if (event === null) return null;
      fold(event);
      break;
    }
    case 'arrive': {
      const [request, ...rest] = world.late;
      if (!request) return null;
      world.late = rest;
      const { status } = performWrite(world.cluster, request);
      if (status === 201) world.lateCreates = [...world.lateCreates, request.ref.kind];
      break;
    }
    case 'again':
      fold({ ...action.event, at });
      break;
    case 'look': {
      const news = observations(world, at);
      if (news.length === 0) return null;
      world.news = [...world.news, ...news];
      break;
    }
    case 'tell': {
      const [event, ...rest] = world.news;
      if (!event) return null;
      world.news = rest;
      fold({ ...event, at });
      break;
    }
    default: {
      const { revision } = world.cluster;
      disturb(setup, world, action);
      if (world.cluster.revision === revision) return null;
    }
  }
  if (world.cluster.revision === before.cluster.revision) world.cluster = before.cluster;
  else {
    world.shiftedAt = setup.plan.routes.map((route, index) => {
      const same = weightsIn(setup, before, route) === weightsIn(setup, world, route);
      return same ? (before.shiftedAt[index] ?? 0) : world.clock;
    });
  }
  return { world, happened };
}

function weightsIn(setup: Setup, { cluster }: World, route: SmiRoute): string {
  return JSON.stringify(weightsInForce(cluster, route, setup.mesh));
}

function disturb(setup: Setup, world: World, action: Action): void {
  const { cluster } = world;
  switch (action.do) {
    case 'pods':
      runDeployments(cluster);
      runReplicaSets(cluster);
      setReady(cluster, null, true);
      return runReplicaSets(cluster);
    case 'endpoints':
      return publishEndpoints(cluster);
    case 'mesh':
      return runAdaptor(cluster);
    case 'settle':
      return settle(cluster);
    case 'kill': {
      world.disturbed = true;
      const { newHash, oldHash } = entryAt(setup.pairs, (action.pair ?? 0) % setup.pairs.length);
      setReady(cluster, action.hash === 'new' ? newHash : oldHash, false, action.count);
      return publishEndpoints(cluster);
    }
    case 'deployment':
      return disturbDeployment(setup, world, action);
    case 'edit': {
      world.disturbed = true;
      return edit(cluster, entryAt(setup.pairs, (action.pair ?? 0) % setup.pairs.length), action.what);
    }
  }
}

function edit(cluster: ModelCluster, { route, deployment, newHash, oldHash }: SetupPair, what: Edit): void {
  const { rootServiceName, canaryServiceName, trafficSplitName } = route;
  switch (what) {
    case 'unpin':
      return unpinByOthers(cluster, rootServiceName);
    case 'unlabel':
      return unlabelByOthers(cluster, rootServiceName);
    case 'weights':
      return setWeightsByOthers(cluster, trafficSplitName, { stable: 50, canary: 50 });
    case 'deleteSplit':
    case 'replaceSplit':
      return deleteSplitByOthers(cluster, trafficSplitName, what === 'replaceSplit');
    case 'unpinCanary':
      return unpinByOthers(cluster, canaryServiceName);
    case 'deleteCanary':
      return remove(cluster, 'Service', canaryServiceName);
    case 'scaleNew':
      return scaleByOthers(cluster, `${deployment}-${newHash}`);
    case 'scaleOld':
      return scaleByOthers(cluster, `${deployment}-${oldHash}`);
    case 'deleteOld':
      return remove(cluster, 'ReplicaSet', `${deployment}-${oldHash}`);
  }
}

function disturbDeployment({ plan, pairs }: Setup, world: World, action: Extract<Action, { do: 'deployment' }>): void {
  const { cluster } = world;
  const { workload, deployment: name } = entryAt(pairs, (action.pair ?? 0) % pairs.length);
  const found = get(cluster, 'Deployment', name);
  const isSomebodys = found?.metadata.annotations?.owner === 'somebody';
  world.disturbed = true;
  if (action.what === 'make') {
    world.intruded ||= !found;
    return makeDeploymentByOthers(cluster, entryAt(plan.workloads, workload).manifest);
  }
  if (action.what === 'remove') return isSomebodys ? removeWithOwned(cluster, name) : undefined;
  changeDeployment(cluster, name, action.what === 'image' ? { image: `${name}:other` } : { replicas: 1 });
}

/** What the owner of the watches would tell: conditions that turned since the run was last told. */
function observations(world: World, at: string): DeploymentEvent[] {
  const { state, cluster } = world;
  return activeConditions(state).flatMap((condition): DeploymentEvent[] => {
    const sight = evaluate(condition, viewOf(cluster));
    if (!isTurn(state.observed[condition.key], sight)) return [];
    return [{ type: 'observed', at, condition: condition.key, ...sight }];
  });
}

/** Carries out an effect and says what the driver would be told; null where that outcome is not possible. */
function perform(
  setup: Setup,
  world: World,
  effect: Effect,
  how: How,
  at: string,
  happened: Happened,
): DeploymentEvent | null {
  const { key } = effect;
  const { plan } = setup;
  const { state, cluster } = world;
  if (how === 'unreachable') return { type: 'unreachable', at, key, message: 'no answer' };
  if (how === 'throttled') {
    return {
      type: 'refused',
      at,
      key,
      status: 429,
      reason: 'TooManyRequests',
      message: 'slow down',
      retryAfterSeconds: 1,
    };
  }
  if (effect.kind !== 'write') {
    if (how === 'lostNotApplied') return { type: 'lost', at, key, message: 'the worker stopped' };
    if (how !== 'ok') return null;
    if (effect.kind === 'check') {
      return { type: 'checked', at, key, ...evaluate(effect.condition, viewOf(cluster)) };
    }
    return effect.kind === 'survey' ? surveyed(setup, world, key, at) : found(setup, world, effect.slot, key, at);
  }
  if (how === 'forbidden') {
    // A permission that was withdrawn is not there for an earlier copy of the write either.
    const { kind, name } = refOf(state, effect.slot);
    world.late = world.late.filter(({ ref }) => ref.kind !== kind || ref.name !== name);
    return { type: 'refused', at, key, status: 422, reason: 'Invalid', message: 'not allowed' };
  }
  const replicaSet = replicaSetFor(world, effect.slot);
  if (effect.change.op === 'create' && partOf(effect.slot).part === 'deployment' && !replicaSet) {
    return { type: 'refused', at, key, status: 404, reason: 'NotFound', message: 'no such ReplicaSet' };
  }
  const request = renderWrite({
    plan,
    state,
    effect,
    mark: { instance, version: world.version },
    replicaSet,
    root: get(cluster, 'Service', plan.routes[partOf(effect.slot).index]?.rootServiceName ?? ''),
    previous: world.saved[effect.slot],
  });
  happened.write = { effect, request, stored: get(cluster, request.ref.kind, request.ref.name) };
  if (how === 'lostNotApplied') {
    world.late = [...world.late, request];
    return { type: 'lost', at, key, message: 'the worker stopped' };
  }
  const answer = performWrite(cluster, request);
  if (how === 'lostApplied') return { type: 'lost', at, key, message: 'no answer' };
  if (how === 'serverError') {
    return { type: 'refused', at, key, status: 500, reason: 'InternalError', message: 'try again' };
  }
  return outcome(setup, answer, key, at);
}

/** What a Deployment object is to stand over, as stored. */
function replicaSetFor({ state, cluster }: World, slot: Slot): KubernetesObject | undefined {
  const { part, index } = partOf(slot);
  if (part !== 'deployment') return undefined;
  const { name } = refOf(state, `${state.track === 'forward' ? 'newReplicaSet' : 'oldReplicaSet'}.${index}`);
  return get(cluster, 'ReplicaSet', name);
}

function outcome({ plan }: Setup, { status, reason, object }: Answer, key: string, at: string): DeploymentEvent {
  if (status >= 300) return { type: 'refused', at, key, status, reason, message: reason };
  return { type: 'written', at, key, object: object ? factsOf(object, plan.routes) : null };
}

function surveyed({ plan, mesh }: Setup, world: World, key: string, at: string): DeploymentEvent {
  const finalDeployments = new Set([oldId]);
  const seen = surroundingsOf(world.cluster, plan.objects, { meshConfirmation: mesh, instance, finalDeployments });
  if (world.state.at === 'P.survey') {
    world.saved = Object.fromEntries([
      ...plan.workloads.map(({ name }, index) => [`deployment.${index}`, get(world.cluster, 'Deployment', name)]),
      ...seen.existing.flatMap((object, index) => (object ? [[slotOfObject(world.state.outline, index), object]] : [])),
    ]);
  }
  return { type: 'surveyed', at, key, survey: survey(plan, world.state, seen) };
}

function found({ plan }: Setup, world: World, slot: Slot, key: string, at: string): DeploymentEvent {
  const { kind, name } = refOf(world.state, slot);
  const object = get(world.cluster, kind, name);
  const ours = object?.metadata.annotations?.[instanceKey] === instance;
  const leftover = ours && object?.metadata.labels?.[deploymentKey] === oldId;
  return { type: 'found', at, key, object: object ? factsOf(object, plan.routes) : null, leftover };
}

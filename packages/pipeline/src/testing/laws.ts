import { activeConditions, evaluate, isReady, isTurn } from '../conditions.ts';
import { canRollBack, decideDeployment } from '../deployment-machine.ts';
import { freedReplicaSets } from '../deployment-object.ts';
import { type Condition, type DeploymentState, isFinal, isSetWeight, partOf } from '../deployment-state.ts';
import { entryAt } from '../entry-at.ts';
import { deploymentKey, fenceKey, hashKey, instanceKey } from '../marks.ts';
import { currentInstruction } from '../moves.ts';
import { splitWeights } from '../traffic/smi.ts';
import { wrongedDeployments } from './deployment-object-law.ts';
import { notPutBack } from './held-law.ts';
import { outOfStep } from './lock-step.ts';
import { formOf, get, list, viewOf } from './model-cluster.ts';
import { readyBehind, trafficOf, weightsInForce } from './model-controllers.ts';
import type { Action, Happened, Setup, SetupPair, World } from './world.ts';

/** The laws of design.md that one deployment can break, each as a check of what an action did. */

export type Law =
  | 'held'
  | 'no black hole'
  | 'monotone'
  | 'confirmed'
  | 'roll back'
  | 'lock step'
  | 'only ours'
  | 'deployments'
  | 'one outcome'
  | 'driven';

export const laws: Record<Law, string> = {
  'no black hole': 'law 1: no write of ours sends traffic where no pod answers',
  monotone: 'law 2: the new version’s share falls only in a roll back or where a step asks for less',
  held: 'while held: what others change is put back before anything else moves',
  confirmed: 'law 3: a weight step succeeds only once the stored weights and the mesh agree with it',
  'roll back': 'law 4: every end leaves the cluster as it must: the new version alone, or everything as before',
  'lock step': 'law 4: the pairs of a target go in lock step, one way and the other',
  'only ours': 'law 5: only our objects are touched, by inert creates and preconditioned changes',
  deployments: 'law 5: a Deployment object is taken over, or kept, at no pod’s cost, and none takes what is ours',
  'one outcome': 'law 6: an end is final and duplicates change nothing',
  driven: 'driving: deciding is repeatable, survives storage, and always says when somebody must look again',
};

export type Breach = { law: Law; message: string };

export function breachesOf(setup: Setup, before: World, action: Action, after: World, happened: Happened): Breach[] {
  const breaches: Breach[] = [];
  const check = (law: Law, holds: boolean, message: () => string) => {
    if (!holds) breaches.push({ law, message: message() });
  };
  checkTraffic(setup, before, after, check);
  checkRaise(setup, before, after, check);
  checkReturn(setup, before, after, check);
  checkTurn(setup, before, after, check);
  for (const words of outOfStep(setup, before, after)) check('lock step', false, () => words);
  for (const words of wrongedDeployments(setup, before, after, happened)) check('deployments', false, () => words);
  checkConfirmed(setup, before, after, check);
  if (isTold(after)) for (const words of notPutBack(after)) check('held', false, () => words);
  checkWrite(setup, before, happened, check);
  checkOthers(setup, after, action, check);
  checkDeciding(before, after, happened, check);
  if (isFinal(after.state.status) && !isFinal(before.state.status)) checkEnd(setup, after, check);
  return breaches;
}

type Check = (law: Law, holds: boolean, message: () => string) => void;

const tiny = 1e-9;

function checkTraffic(setup: Setup, before: World, after: World, check: Check): void {
  if (after.disturbed) return;
  for (const pair of setup.pairs) {
    if (pair.first) continue;
    const was = trafficOf(before.cluster, pair, setup.mesh);
    const is = trafficOf(after.cluster, pair, setup.mesh);
    for (const client of ['mesh', 'plain'] as const) {
      const name = `${client} traffic to ${pair.route.rootServiceName}`;
      check('no black hole', is[client].lost < tiny, () => `${name} is lost: ${JSON.stringify(is[client])}`);
      const falls = is[client].new < was[client].new - tiny;
      const may = after.state.rollBack !== null || isLowering(before.state) || isLowering(after.state);
      check('monotone', !falls || may, () => `${name}: share fell from ${was[client].new} to ${is[client].new}`);
    }
  }
}

/** Whether the step being carried out asks for less than one before it. */
function isLowering(state: DeploymentState): boolean {
  if (isFinal(state.status)) return false;
  const { step: index } = currentInstruction(state);
  const step = index === undefined ? undefined : state.outline.steps[index];
  if (!isSetWeight(step)) return false;
  return state.outline.steps.slice(0, index).some((earlier) => isSetWeight(earlier) && earlier.weight > step.weight);
}

/** Traffic is given to the new version only while it has all its pods and the old one is pinned. */
function checkRaise(setup: Setup, before: World, after: World, check: Check): void {
  const { effect } = after.state;
  if (effect === null || effect.key === before.state.effect?.key || effect.kind !== 'write') return;
  if (after.state.track === 'rollBack' || !isTold(before)) return;
  const { change } = effect;
  const { index } = partOf(effect.slot);
  // Past the point of no return both sides lead to new pods.
  if (!canRollBack(before.state)) return;
  const raised = change.op === 'weights' && change.weights.canary > (after.state.routes[index]?.weights?.canary ?? 0);
  const turned = /^F2\.pin\./.test(effect.key);
  if (!raised && !turned) return;
  // Pairs go in lock step: what one lacks keeps all of them from more traffic.
  for (const { route, replicas, newHash, oldHash } of setup.pairs.filter(({ first }) => !first)) {
    const ready = readyBehind(after.cluster, route.canaryServiceName, newHash);
    check('no black hole', ready >= replicas, () => `${effect.key} is sent with ${ready} new pods ready`);
    const root = get(after.cluster, 'Service', route.rootServiceName);
    const pin = (root?.spec as { selector?: Record<string, string> } | undefined)?.selector?.[hashKey];
    // The root that is turned itself may have been unpinned by others while its write was on its way.
    if (turned && pin === undefined && route === setup.pairs[index]?.route) continue;
    check('no black hole', pin === oldHash, () => `${effect.key} is sent while root is pinned to ${pin}`);
  }
}

/** Traffic is given back to the old version only while that can take it: as at the start, or as well as the new one. */
function checkReturn(setup: Setup, before: World, after: World, check: Check): void {
  const { effect } = after.state;
  if (effect === null || effect.key === before.state.effect?.key || effect.kind !== 'write') return;
  // One that is sent again after a conflict was decided when it was sent first.
  if (!/^(R1|S7\.\d+)\.weight\./.test(effect.key) || before.state.at === after.state.at || !isTold(before)) return;
  // Nor is putting back what somebody else just raised.
  if (before.state.at.replace('.mesh.', '.weight.') === after.state.at) return;
  const { change } = effect;
  const { index } = partOf(effect.slot);
  if (change.op !== 'weights' || change.weights.canary >= (after.state.routes[index]?.weights?.canary ?? 0)) return;
  const { route, workload, oldHash, newHash } = entryAt(setup.pairs, index);
  const old = readyBehind(after.cluster, route.rootServiceName, oldHash);
  const fresh = readyBehind(after.cluster, route.canaryServiceName, newHash);
  const enough = old >= (after.state.survey?.workloads[workload]?.old?.ready ?? 0) || old >= fresh;
  check('no black hole', enough, () => `${effect.key} is sent with ${old} old and ${fresh} new pods ready`);
}

/**
 * Splits go, and roots turn, only when nothing flows any more where that would hurt, and connections had time to end:
 * a split by its own weights, the first root by those of every pair.
 */
function checkTurn(setup: Setup, before: World, after: World, check: Check): void {
  const { effect, undo } = after.state;
  if (effect === null || effect.key === before.state.effect?.key || effect.kind !== 'write') return;
  const turns = /^F2\.pin\./.test(effect.key);
  const deletes = /^(F4|R2)\.delete\./.test(effect.key);
  if ((!turns && !deletes) || after.disturbed || after.state.routes.some(({ diverted }) => diverted)) return;
  const { index } = partOf(effect.slot);
  for (const pair of setup.pairs) {
    if (pair.first) continue;
    const weights = weightsInForce(after.cluster, pair.route, setup.mesh);
    const words = () => `${effect.key} is sent at ${JSON.stringify(weights)} of ${pair.route.rootServiceName}`;
    if (turns) check('confirmed', weights?.canary === 100, words);
    else check('no black hole', weights === null || weights.canary === 0, words);
    const drained = after.clock - (after.shiftedAt[pair.index] ?? 0) >= setup.plan.drainSeconds * 1000;
    if (drained || undo?.routes[pair.index]?.shifted === false) continue;
    check('no black hole', !turns && pair.index !== index, () => `${effect.key} is sent before connections drained`);
  }
}

/** Whether the run knows what the watches of its cluster could tell. */
function isTold({ state, cluster, news }: World): boolean {
  const isKnown = (condition: Condition) =>
    !isTurn(state.observed[condition.key], evaluate(condition, viewOf(cluster)));
  return news.length === 0 && activeConditions(state).every(isKnown);
}

function checkConfirmed(setup: Setup, before: World, after: World, check: Check): void {
  if (after.disturbed) return;
  for (const [index, step] of setup.plan.steps.entries()) {
    if (!isSetWeight(step)) continue;
    const turned =
      after.state.steps[index]?.status === 'SUCCEEDED' && before.state.steps[index]?.status !== 'SUCCEEDED';
    if (!turned) continue;
    for (const { route } of setup.pairs.filter(({ first }) => !first)) {
      const split = get(after.cluster, 'TrafficSplit', route.trafficSplitName);
      const stored = split ? splitWeights(split, route) : null;
      const taken = weightsInForce(after.cluster, route, setup.mesh);
      const words = `step ${index + 1} of ${route.rootServiceName}`;
      check('confirmed', stored?.canary === step.weight, () => `${words}: stored is ${JSON.stringify(stored)}`);
      check('confirmed', taken?.canary === step.weight, () => `${words}: the mesh has ${JSON.stringify(taken)}`);
    }
  }
}

function checkWrite(setup: Setup, before: World, happened: Happened, check: Check): void {
  if (!happened.write) return;
  const { effect, request, stored } = happened.write;
  const { name, kind } = request.ref;
  const may = [
    ...setup.pairs.flatMap(({ route, deployment, newHash, oldHash }) => [
      `Service/${route.rootServiceName}`,
      `Service/${route.canaryServiceName}`,
      `TrafficSplit/${route.trafficSplitName}`,
      `ReplicaSet/${deployment}-${newHash}`,
      `ReplicaSet/${deployment}-${oldHash}`,
      `Deployment/${deployment}`,
    ]),
    ...freedReplicaSets(before.state.survey).map((replicaSet) => `ReplicaSet/${replicaSet.name}`),
    ...setup.plan.objects.map((object) => `${object.kind}/${object.metadata.name}`),
  ];
  check('only ours', may.includes(`${kind}/${name}`), () => `${effect.key} writes ${kind} ${name}`);
  if (request.verb === 'create') {
    const { replicas, backends } = (request.body.spec ?? {}) as { replicas?: number; backends?: { weight: number }[] };
    check('only ours', kind !== 'ReplicaSet' || replicas === 0, () => `${effect.key} creates ${replicas} pods`);
    check('only ours', backends === undefined || backends[1]?.weight === 0, () => `${effect.key} is not inert`);
    return;
  }
  const asked = request.verb === 'delete' ? request : (request.body.metadata as Record<string, unknown>);
  const known: { uid: string; resourceVersion: string }[] = [
    ...Object.values(before.state.objects).filter((object) => object !== undefined),
    ...(before.state.survey?.leftovers ?? []),
    ...(before.state.inTheWay ? [before.state.inTheWay] : []),
  ];
  check(
    'only ours',
    known.some(({ resourceVersion }) => resourceVersion === asked.resourceVersion),
    () => `${effect.key} carries resourceVersion ${asked.resourceVersion}, which is of none of our answers`,
  );
  if (request.verb === 'delete') {
    check(
      'only ours',
      known.some(({ uid }) => uid === request.uid),
      () => `${effect.key} deletes uid ${request.uid}`,
    );
    const foreign = stored?.metadata.uid === request.uid && stored.metadata.annotations?.owner === 'somebody';
    const found = before.state.survey?.workloads.some(({ deployment }) => deployment?.uid === request.uid) === true;
    check('only ours', !foreign || found, () => `${effect.key} deletes what somebody else made`);
  }
}

function checkOthers(setup: Setup, { cluster }: World, action: Action, check: Check): void {
  for (const key of ['Service/bystander', 'ConfigMap/bystander']) {
    const [kind = '', name = ''] = key.split('/');
    check('only ours', formOf(get(cluster, kind, name)) === setup.before[key], () => `${action.do} changed ${key}`);
  }
}

function checkDeciding(before: World, after: World, happened: Happened, check: Check): void {
  const last = happened.events.at(-1);
  if (!last) return;
  const { state } = after;
  if (isFinal(before.state.status)) {
    check('one outcome', state === before.state, () => `${last.type} changed a final state`);
  }
  const duplicate = decideDeployment(state, last);
  check(
    'one outcome',
    duplicate.effects.length === 0 && sameJson(duplicate.state, state),
    () => `a second ${last.type} changes ${differing(state, duplicate.state)}`,
  );
  if (isFinal(state.status) || state.startedAt === null) return;
  const instruction = currentInstruction(state);
  const waitsForPerson =
    state.frozen.length > 0 || (instruction.kind === 'pause' && state.status === 'AWAITING_APPROVAL');
  if (state.wakeAt === null) check('driven', waitsForPerson, () => `nobody would ever look at ${state.at} again`);
  else check('driven', state.wakeAt > last.at, () => `${state.at} is due at once, again and again`);
}

function checkEnd(setup: Setup, world: World, check: Check): void {
  const { state, cluster } = world;
  const isFree = (kind: string) => world.lateCreates.includes(kind);
  // A run that neither way can end stops where it is.
  if (state.at !== 'end') {
    check('roll back', state.leftInCluster.length > 0, () => 'nobody is told what stands');
    return;
  }
  const splits = list(cluster, 'TrafficSplit').filter(({ metadata }) => metadata.annotations?.[instanceKey]);
  check('roll back', splits.length === 0 || isFree('TrafficSplit'), () => 'a TrafficSplit is still there');
  for (const pair of setup.pairs) checkEndOfRoute(setup, pair, world, check);
  if (state.status === 'SUCCEEDED') {
    check(
      'roll back',
      state.steps.every(({ status }) => isFirst(state) || status === 'SUCCEEDED'),
      () => 'a step is open',
    );
    return;
  }
  const canaries = setup.pairs.map(({ route }) => `Service/${route.canaryServiceName}`);
  for (const [key, form] of Object.entries(setup.before)) {
    const [kind = '', name = ''] = key.split('/');
    // Others may have scaled or deleted the old version where the run does not hold it.
    if (world.disturbed && kind === 'ReplicaSet') continue;
    if (canaries.includes(key)) continue;
    const is = formOf(get(cluster, kind, name));
    // What becomes of a Deployment and its ReplicaSets once somebody else has a hand in it is his.
    const refused = state.leftInCluster.some((line) => /^Deployment \S+ was not restored/.test(line));
    if (
      (world.disturbed || refused) &&
      setup.pairs.some(({ object }) => object) &&
      /^(Deployment|ReplicaSet)$/.test(kind)
    )
      continue;
    if (state.leftInCluster.some((line) => line.startsWith(`${kind} ${name} was not restored`))) continue;
    check('roll back', is === form, () => `${key} is ${is}, was ${form}`);
  }
  for (const { kind, metadata } of setup.plan.objects) {
    if (`${kind}/${metadata.name}` in setup.before || !get(cluster, kind, metadata.name) || isFree(kind)) continue;
    const told = state.leftInCluster.some((line) => line.includes(metadata.name));
    check('roll back', told, () => `${kind} ${metadata.name} stays and nobody is told`);
  }
}

/** No earlier version ran when the run began. */
function isFirst({ survey }: DeploymentState): boolean {
  return survey?.workloads.every(({ mode }) => mode !== 'canary') ?? false;
}

function checkEndOfRoute(setup: Setup, pair: SetupPair, world: World, check: Check): void {
  const { state, cluster } = world;
  const { route, deployment, replicas, newHash, oldHash } = pair;
  const { rootServiceName, canaryServiceName, canaryServiceGiven } = route;
  const isFree = (kind: string) => world.lateCreates.includes(kind);
  const root = get(cluster, 'Service', rootServiceName);
  const selector = (root?.spec as { selector?: Record<string, string> } | undefined)?.selector ?? {};
  check('roll back', !(hashKey in selector), () => `${rootServiceName} still selects by ${hashKey}`);
  const marks = [root?.metadata.labels?.[deploymentKey], root?.metadata.annotations?.[fenceKey]];
  check(
    'roll back',
    marks.every((mark) => mark === undefined),
    () => `${rootServiceName} still carries our marks`,
  );
  const canary = get(cluster, 'Service', canaryServiceName);
  if (canaryServiceGiven) {
    const key = `Service/${canaryServiceName}`;
    const isDeleted = !canary && world.disturbed;
    check('roll back', isDeleted || formOf(canary) === setup.before[key], () => `${key} is ${formOf(canary)}`);
  } else {
    const told = state.leftInCluster.some((line) => line.includes(canaryServiceName));
    check('roll back', !canary || told || isFree('Service'), () => `${canaryServiceName} is still there`);
  }
  const newSet = get(cluster, 'ReplicaSet', `${deployment}-${newHash}`);
  const oldSet = get(cluster, 'ReplicaSet', `${deployment}-${oldHash}`);
  const wanted = (newSet?.spec as { replicas?: number } | undefined)?.replicas;
  if (state.status !== 'SUCCEEDED') {
    const gone = !newSet || (isFree('ReplicaSet') && wanted === 0);
    check('roll back', gone, () => `the new version of ${deployment} is still there`);
    return;
  }
  const ready = list(cluster, 'Pod').filter((pod) => pod.metadata.labels?.[hashKey] === newHash && isReady(pod)).length;
  check('roll back', world.disturbed || ready === replicas, () => `${ready} new pods of ${deployment} are ready`);
  check('roll back', !oldSet, () => `the previous version of ${deployment} is still there`);
  check('roll back', wanted === replicas, () => `the new version of ${deployment} has ${wanted} pods`);
}

/** Deciding again from the stored form of the state must come to the same. */
export function repeatBreaches(before: World, after: World, happened: Happened): Breach[] {
  const [event] = happened.events;
  if (!event) return [];
  const again = decideDeployment(JSON.parse(JSON.stringify(before.state)) as DeploymentState, event);
  const asked = again.effects[0] ?? null;
  const same = sameJson(again.state, after.state) && (asked === null || sameJson(asked, after.state.effect));
  return same ? [] : [{ law: 'driven', message: `${event.type} is decided differently after storage` }];
}

function sameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function differing(a: DeploymentState, b: DeploymentState): string {
  const fields = Object.keys(a) as (keyof DeploymentState)[];
  return fields.filter((field) => !sameJson(a[field], b[field])).join(', ');
}

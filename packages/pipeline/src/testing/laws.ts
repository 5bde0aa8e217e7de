import { activeConditions, evaluate, isReady } from '../conditions.ts';
import { canRollBack, decideDeployment } from '../deployment-machine.ts';
import { type DeploymentState, isFinal, isSetWeight } from '../deployment-state.ts';
import { deploymentKey, fenceKey, hashKey, instanceKey } from '../marks.ts';
import { currentInstruction } from '../moves.ts';
import { splitWeights } from '../traffic/smi.ts';
import { formOf, get, list, viewOf } from './model-cluster.ts';
import { readyBehind, trafficOf, weightsInForce } from './model-controllers.ts';
import { newHash, oldHash } from './samples.ts';
import type { Action, Happened, Setup, World } from './world.ts';

/** The laws of design.md that one deployment can break, each as a check of what an action did. */

export type Law = 'no black hole' | 'monotone' | 'confirmed' | 'roll back' | 'only ours' | 'one outcome' | 'driven';

export const laws: Record<Law, string> = {
  'no black hole': 'law 1: no write of ours sends traffic where no pod answers',
  monotone: 'law 2: the new version’s share falls only in a roll back or where a step asks for less',
  confirmed: 'law 3: a weight step succeeds only once the stored weights and the mesh agree with it',
  'roll back': 'law 4: every end leaves the cluster as it must: the new version alone, or everything as before',
  'only ours': 'law 5: only our objects are touched, by inert creates and preconditioned changes',
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
  checkConfirmed(setup, before, after, check);
  checkWrite(setup, before, happened, check);
  checkOthers(setup, after, action, check);
  checkDeciding(before, after, happened, check);
  if (isFinal(after.state.status) && !isFinal(before.state.status)) checkEnd(setup, after, check);
  return breaches;
}

type Check = (law: Law, holds: boolean, message: () => string) => void;

const tiny = 1e-9;

function shares(setup: Setup, { cluster }: World) {
  return trafficOf(cluster, { canary: setup.plan.route.canaryServiceName, hash: newHash, mesh: setup.mesh });
}

function checkTraffic(setup: Setup, before: World, after: World, check: Check): void {
  if (setup.first || after.disturbed) return;
  const was = shares(setup, before);
  const is = shares(setup, after);
  for (const client of ['mesh', 'plain'] as const) {
    check('no black hole', is[client].lost < tiny, () => `${client} traffic is lost: ${JSON.stringify(is[client])}`);
    const falls = is[client].new < was[client].new - tiny;
    const may = after.state.rollBack !== null || isLowering(before.state) || isLowering(after.state);
    check('monotone', !falls || may, () => `${client} share fell from ${was[client].new} to ${is[client].new}`);
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
  const raised = change.op === 'weights' && change.weights.canary > (after.state.weights?.canary ?? 0);
  const turned = change.op === 'pin' && effect.slot === 'root' && change.hash === newHash;
  if (!raised && !(turned && canRollBack(before.state))) return;
  const { route, workload } = setup.plan;
  const ready = readyBehind(after.cluster, route.canaryServiceName, newHash);
  check('no black hole', ready >= workload.replicas, () => `${effect.key} is sent with ${ready} new pods ready`);
  const root = get(after.cluster, 'Service', route.rootServiceName);
  const pin = (root?.spec as { selector?: Record<string, string> } | undefined)?.selector?.[hashKey];
  check('no black hole', pin === oldHash, () => `${effect.key} is sent while root is pinned to ${pin}`);
}

/** Traffic is given back to the old version only while that can take it: as at the start, or as well as the new one. */
function checkReturn(setup: Setup, before: World, after: World, check: Check): void {
  const { effect, survey } = after.state;
  if (effect === null || effect.key === before.state.effect?.key || effect.kind !== 'write') return;
  // One that is sent again after a conflict was decided when it was sent first.
  if (!/^(R1|S7\.\d+)\.weight#/.test(effect.key) || before.state.at === after.state.at || !isTold(before)) return;
  // Nor is putting back what somebody else just raised.
  if (before.state.at === after.state.at.replace('.weight', '.mesh')) return;
  const { change } = effect;
  if (change.op !== 'weights' || change.weights.canary >= (after.state.weights?.canary ?? 0)) return;
  const { route } = setup.plan;
  const old = readyBehind(after.cluster, route.rootServiceName, oldHash);
  const fresh = readyBehind(after.cluster, route.canaryServiceName, newHash);
  const enough = old >= (survey?.old?.ready ?? 0) || old >= fresh;
  check('no black hole', enough, () => `${effect.key} is sent with ${old} old and ${fresh} new pods ready`);
}

/** The split goes, and root turns, only when nothing flows any more where that would hurt, and connections had time to end. */
function checkTurn(setup: Setup, before: World, after: World, check: Check): void {
  const { effect, undo } = after.state;
  if (effect === null || effect.key === before.state.effect?.key || effect.kind !== 'write') return;
  const turns = /^F2\.pin#/.test(effect.key);
  const deletes = /^(F4|R2)\.delete#/.test(effect.key);
  if ((!turns && !deletes) || after.disturbed || after.state.diverted) return;
  const weights = weightsInForce(after.cluster, setup.plan.route.canaryServiceName, setup.mesh);
  const words = () => `${effect.key} is sent at ${JSON.stringify(weights)}`;
  if (turns) check('confirmed', weights?.canary === 100, words);
  else check('no black hole', weights === null || weights.canary === 0, words);
  const drained = after.clock - after.shiftedAt >= setup.plan.drainSeconds * 1000;
  check('no black hole', drained || undo?.shifted === false, () => `${effect.key} is sent before connections drained`);
}

/** Whether the run knows what the watches of its cluster could tell. */
function isTold({ state, cluster, news }: World): boolean {
  const known = (key: string) => state.observed[key]?.holds ?? false;
  return (
    news.length === 0 &&
    activeConditions(state).every((condition) => evaluate(condition, viewOf(cluster)).holds === known(condition.key))
  );
}

function checkConfirmed(setup: Setup, before: World, after: World, check: Check): void {
  if (after.disturbed) return;
  for (const [index, step] of setup.plan.steps.entries()) {
    if (!isSetWeight(step)) continue;
    const turned =
      after.state.steps[index]?.status === 'SUCCEEDED' && before.state.steps[index]?.status !== 'SUCCEEDED';
    if (!turned) continue;
    const split = get(after.cluster, 'TrafficSplit', setup.plan.route.trafficSplitName);
    const stored = split ? splitWeights(split, setup.plan.route) : null;
    const taken = weightsInForce(after.cluster, setup.plan.route.canaryServiceName, setup.mesh);
    check('confirmed', stored?.canary === step.weight, () => `step ${index + 1}: stored is ${JSON.stringify(stored)}`);
    check('confirmed', taken?.canary === step.weight, () => `step ${index + 1}: the mesh has ${JSON.stringify(taken)}`);
  }
}

function checkWrite(setup: Setup, before: World, happened: Happened, check: Check): void {
  if (!happened.write) return;
  const { effect, request, stored } = happened.write;
  const { route, workload, objects } = setup.plan;
  const { name, kind } = request.ref;
  const may = [
    `Service/${route.rootServiceName}`,
    `Service/${route.canaryServiceName}`,
    `TrafficSplit/${route.trafficSplitName}`,
    `ReplicaSet/${workload.name}-${newHash}`,
    `ReplicaSet/${workload.name}-${oldHash}`,
    ...objects.map((object) => `${object.kind}/${object.metadata.name}`),
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
    check('only ours', !foreign, () => `${effect.key} deletes what somebody else made`);
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
  const waitsForPerson = instruction.kind === 'pause' && state.status === 'AWAITING_APPROVAL';
  if (state.wakeAt === null) check('driven', waitsForPerson, () => `nobody would ever look at ${state.at} again`);
  else check('driven', state.wakeAt > last.at, () => `${state.at} is due at once, again and again`);
}

function checkEnd(setup: Setup, world: World, check: Check): void {
  const { state, cluster } = world;
  const { route, workload, objects } = setup.plan;
  const root = get(cluster, 'Service', route.rootServiceName);
  const selector = (root?.spec as { selector?: Record<string, string> } | undefined)?.selector ?? {};
  check('roll back', !(hashKey in selector), () => `root still selects by ${hashKey}`);
  const marks = [root?.metadata.labels?.[deploymentKey], root?.metadata.annotations?.[fenceKey]];
  check(
    'roll back',
    marks.every((mark) => mark === undefined),
    () => 'root still carries our marks',
  );
  const isFree = (kind: string) => world.lateCreates.includes(kind);
  const splits = list(cluster, 'TrafficSplit').filter(({ metadata }) => metadata.annotations?.[instanceKey]);
  check('roll back', splits.length === 0 || isFree('TrafficSplit'), () => 'the TrafficSplit is still there');
  const { canaryServiceName, canaryServiceGiven } = route;
  const canary = get(cluster, 'Service', canaryServiceName);
  if (canaryServiceGiven) {
    const key = `Service/${canaryServiceName}`;
    check('roll back', formOf(canary) === setup.before[key], () => `${key} is ${formOf(canary)}`);
  } else {
    const told = state.leftInCluster.some((line) => line.includes(canaryServiceName));
    check('roll back', !canary || told || isFree('Service'), () => 'the canary Service is still there');
  }
  const newSet = get(cluster, 'ReplicaSet', `${workload.name}-${newHash}`);
  const oldSet = get(cluster, 'ReplicaSet', `${workload.name}-${oldHash}`);
  const replicasOf = (set: typeof newSet) => (set?.spec as { replicas?: number } | undefined)?.replicas;
  if (state.status === 'SUCCEEDED') {
    const ready = list(cluster, 'Pod').filter(
      (pod) => pod.metadata.labels?.[hashKey] === newHash && isReady(pod),
    ).length;
    check('roll back', world.disturbed || ready === workload.replicas, () => `${ready} new pods are ready`);
    check('roll back', !oldSet, () => 'the previous version is still there');
    check(
      'roll back',
      replicasOf(newSet) === workload.replicas,
      () => `the new version has ${replicasOf(newSet)} pods`,
    );
    check(
      'roll back',
      state.steps.every(({ status }) => setup.first || status === 'SUCCEEDED'),
      () => 'a step is open',
    );
    return;
  }
  check(
    'roll back',
    !newSet || (isFree('ReplicaSet') && replicasOf(newSet) === 0),
    () => 'the new version is still there',
  );
  for (const [key, form] of Object.entries(setup.before)) {
    const [kind = '', name = ''] = key.split('/');
    if (key === `Service/${canaryServiceName}`) continue;
    const is = formOf(get(cluster, kind, name));
    if (state.leftInCluster.some((line) => line.startsWith(`${kind} ${name} was not restored`))) continue;
    check('roll back', is === form, () => `${key} is ${is}, was ${form}`);
  }
  for (const { kind, metadata } of objects) {
    if (`${kind}/${metadata.name}` in setup.before || !get(cluster, kind, metadata.name) || isFree(kind)) continue;
    const told = state.leftInCluster.some((line) => line.includes(metadata.name));
    check('roll back', told, () => `${kind} ${metadata.name} stays and nobody is told`);
  }
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

import { activeConditions, evaluate, isReady } from '../conditions.ts';
import { isFinal } from '../deployment-state.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { deploymentKey } from '../marks.ts';
import { get, list, viewOf } from './model-cluster.ts';
import { controllerOf } from './model-deployments.ts';
import type { Happened, Setup, SetupPair, World } from './world.ts';

/**
 * What a run owes to Deployment objects (design.md, "ReplicaSets and adoption"), judged by the cluster: whoever takes one
 * over keeps its users served, whoever keeps one costs no pod, and nobody's Deployment takes our ReplicaSets.
 */
export function wrongedDeployments(setup: Setup, before: World, after: World, { write }: Happened): string[] {
  const found: string[] = [];
  for (const pair of setup.pairs) {
    found.push(...fewerServing(pair, after), ...otherPods(before, after, pair), ...takenByOthers(pair, before, after));
    if (isFinal(after.state.status) && !isFinal(before.state.status)) found.push(...wrongEnd(setup, pair, after));
  }
  if (write?.request.ref.kind === 'Deployment') found.push(...wrongWrite(write));
  return [...found, ...heedless(before, after)];
}

/** Of the pods that the user's selector means as many are ready as before, or as the new version asks for. */
function fewerServing({ deployment, object, replicas }: SetupPair, { cluster, disturbed }: World): string[] {
  if (object !== 'plain' || disturbed) return [];
  const serving = list(cluster, 'Pod').filter((pod) => pod.metadata.labels?.app === deployment && isReady(pod));
  const least = Math.min(2, replicas);
  return serving.length < least ? [`${serving.length} pods of ${deployment} are ready, ${least} were`] : [];
}

/** While a Deployment object is set aside or made, no pod comes or goes. */
function otherPods(before: World, after: World, { deployment }: SetupPair): string[] {
  const isSteady = ({ state }: World) => /^(S1\.(orphan|unlabel)|F8\.|R7\.)/.test(state.at);
  if (after.disturbed || !isSteady(before) || !isSteady(after)) return [];
  const pods = ({ cluster }: World) =>
    list(cluster, 'Pod')
      .filter(({ metadata }) => metadata.labels?.app === deployment)
      .map(({ metadata }) => metadata.name)
      .sort()
      .join();
  return pods(before) === pods(after) ? [] : [`${after.state.at}: pods were ${pods(before)} and are ${pods(after)}`];
}

/**
 * The time between a kept Deployment's end and its labels coming off the ReplicaSet cannot be closed, nor can a roll back
 * that begins within it.
 */
function takenByOthers({ deployment, object, newHash, oldHash }: SetupPair, before: World, after: World): string[] {
  const isExposed = object === 'kept' && /^(P|step|S1|R7\.(away|create|unlabel))\b/.test(before.state.at);
  const isTaken = (world: World, hash: string) => {
    const owner = ownerOf(world, get(world.cluster, 'ReplicaSet', `${deployment}-${hash}`));
    return owner?.metadata.annotations?.owner === 'somebody';
  };
  return [newHash, ...(isExposed ? [] : [oldHash])]
    .filter((hash) => isTaken(after, hash) && !isTaken(before, hash))
    .map((hash) => `somebody's Deployment took ${deployment}-${hash}`);
}

function ownerOf({ cluster }: World, set: KubernetesObject | undefined): KubernetesObject | undefined {
  const uid = set && controllerOf(set);
  return uid === undefined ? undefined : list(cluster, 'Deployment').find(({ metadata }) => metadata.uid === uid);
}

function wrongWrite({ effect, request }: NonNullable<Happened['write']>): string[] {
  if (request.verb === 'delete') return request.orphan ? [] : [`${effect.key} deletes a Deployment with its pods`];
  if (request.verb !== 'create') return [];
  const { paused } = request.body.spec as { paused?: boolean };
  return paused ? [] : [`${effect.key} creates a Deployment that is not paused`];
}

/** Nothing that counts on the field being clear is begun beside a Deployment that somebody made. */
function heedless(before: World, after: World): string[] {
  const { effect } = after.state;
  if (effect === null || effect.key === before.state.effect?.key || !isTold(before)) return [];
  // One that is sent again after a conflict was decided when it was sent first.
  const { at, effect: last } = before.state;
  const begun = at !== after.state.at || last === null || last.kind === 'check';
  if (!begun || !/^(S1\.survey|S7\.\d+\.weight|F2\.pin|F7\.unpin|F8\.create)/.test(effect.key)) return [];
  if (after.state.track === 'rollBack' || effect.kind === 'check' || effect.kind === 'read') return [];
  if (effect.kind === 'write' && effect.change.op === 'weights') {
    const { index } = { index: Number(effect.slot.split('.')[1]) };
    if (effect.change.weights.canary <= (before.state.routes[index]?.weights?.canary ?? 0)) return [];
  }
  // One that is past already when the first F2 was sent goes on with the others.
  if (effect.key.startsWith('F2.') && before.state.noReturn) return [];
  const stands = list(before.cluster, 'Deployment').some(({ metadata }) => metadata.annotations?.owner === 'somebody');
  return stands ? [`${effect.key} is sent while somebody's Deployment stands there`] : [];
}

/** Whether the run knows what the watches of its cluster could tell. */
function isTold({ state, cluster, news }: World): boolean {
  if (news.length > 0 || isFinal(state.status) || state.startedAt === null) return news.length === 0;
  return activeConditions(state).every(
    (condition) => evaluate(condition, viewOf(cluster)).holds === (state.observed[condition.key]?.holds ?? false),
  );
}

function wrongEnd(setup: Setup, { deployment: name, object, newHash }: SetupPair, world: World): string[] {
  const { state, cluster } = world;
  const found = get(cluster, 'Deployment', name);
  if (state.status !== 'SUCCEEDED') return [];
  const sets = list(cluster, 'ReplicaSet').filter(({ metadata }) => metadata.labels?.app === name);
  const wrong: string[] = [];
  if (setup.plan.keepDeploymentObject) {
    const told = state.warnings.some((text) => text.includes(`Deployment ${name} was deleted`));
    const owner = ownerOf(world, get(cluster, 'ReplicaSet', `${name}-${newHash}`));
    const { paused } = (found?.spec ?? {}) as { paused?: boolean };
    const isThere = found !== undefined && (owner === found || world.disturbed) && !paused;
    if (!isThere && !told) wrong.push(`no Deployment ${name} stands over the new version`);
    if (found?.metadata.labels?.[deploymentKey] !== undefined) wrong.push(`Deployment ${name} still carries our mark`);
    return wrong;
  }
  if (found && !world.lateCreates.includes('Deployment') && !world.intruded) wrong.push(`a Deployment ${name} is left`);
  if (object !== null && sets.length > 0 && !world.intruded) {
    wrong.push(`ReplicaSets of the Deployment are left: ${sets.map(({ metadata }) => metadata.name).join()}`);
  }
  return wrong;
}

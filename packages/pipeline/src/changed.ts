import type { ClusterView, Sight } from './conditions.ts';
import {
  type Condition,
  type DeploymentState,
  type HeldKind,
  type ObjectFacts,
  partOf,
  type Slot,
} from './deployment-state.ts';
import { writerOfHeld, writerWords } from './field-managers.ts';
import { type HeldChange, heldObjects, isAsHeld, isFrozen, markOf } from './held.ts';
import { factsOf, refOf } from './render.ts';
import { sameWeights } from './traffic/smi.ts';

/** Conditions of the kind `changed`: an object that a run holds is not as the run left it. */

type Changed = Extract<Condition, { kind: 'changed' }>;

/** The guard of a held object. */
export function changedKey(slot: Slot): string {
  return `guard.changed.${slot}`;
}

/** One that is frozen is people's now: that it changes again is no news. */
export function changedConditions(state: DeploymentState): Changed[] {
  return heldObjects(state).flatMap(({ slot, want }): Changed[] => {
    const known = state.objects[slot];
    if (!known || isFrozen(state, slot)) return [];
    const { apiVersion, kind, name } = refOf(state, slot);
    const { part, index } = partOf(slot);
    return [
      {
        key: changedKey(slot),
        namespace: state.outline.namespace,
        kind: 'changed',
        slot,
        object: { apiVersion, kind: kind as HeldKind, name },
        want,
        mark: markOf(state, slot),
        route: part === 'split' ? (state.outline.routes[index] ?? null) : null,
        uid: known.uid,
        resourceVersion: known.resourceVersion,
      },
    ];
  });
}

/**
 * A view that is older than the run's own last answer shows what that answer replaced, and one of the same version what it
 * left. The rest is somebody's, and said to be so only if the run would not have left it like that.
 */
export function evaluateChanged(condition: Changed, view: ClusterView): Sight {
  const { namespace, want, mark, route } = condition;
  const { kind, name } = condition.object;
  const words = `${kind} ${name}`;
  const object =
    kind === 'Service'
      ? view.service(namespace, name)
      : kind === 'TrafficSplit'
        ? view.trafficSplit(namespace, name)
        : view.replicaSet(namespace, name);
  if (!object) {
    const upTo = view.shownUpTo(kind, namespace);
    const isUnseen = upTo !== null && isOlder(upTo, condition.resourceVersion);
    return isUnseen
      ? { holds: false, detail: `${words} is not shown yet` }
      : { holds: true, detail: `${words} was deleted or lost its label`, seen: 'gone' };
  }
  const { uid = '', resourceVersion = '' } = object.metadata;
  const isOwn = uid === condition.uid && !isNewer(resourceVersion, condition.resourceVersion);
  if (isOwn || isOlder(resourceVersion, condition.resourceVersion)) return { holds: false, detail: `${words} is ours` };
  const facts = factsOf(object, route ? [route] : []);
  const who = writerWords(writerOfHeld(object));
  // The status of a ReplicaSet changes all the time and says nothing about what others ask of it.
  const seen = kind === 'ReplicaSet' ? `${uid} ${object.metadata.generation ?? ''}` : resourceVersion;
  if (uid !== condition.uid) return { holds: true, detail: `${words} was deleted and made again by ${who}`, seen };
  if (isAsHeld(want, mark, facts)) return { holds: false, detail: `${words} is as it was left`, seen };
  return { holds: true, detail: `${changedWords(words, want, facts)}, changed by ${who}`, seen };
}

/** In which way a held object is not as a run left it. */
export function changedWords(words: string, want: HeldChange, facts: ObjectFacts): string {
  switch (want.op) {
    case 'pin':
      return facts.pin === want.hash ? `${words} lost its label` : `${words} no longer selects only the pods it is to`;
    case 'weights': {
      if (sameWeights(want.weights, facts.weights)) return `${words} lost its label`;
      const { stable, canary } = want.weights;
      const is = facts.weights ? `${facts.weights.stable}/${facts.weights.canary}` : 'other backends';
      return `${words} has ${is} instead of ${stable}/${canary}`;
    }
    case 'scale':
      return `${words} asks for ${facts.replicas ?? 0} pods instead of ${want.replicas}`;
  }
}

/** Kubernetes 1.35 has resourceVersions of one resource compare as numbers; others are not put in order. */
function isOlder(a: string, b: string): boolean {
  return isNumber(a) && isNumber(b) && BigInt(a) < BigInt(b);
}

function isNewer(a: string, b: string): boolean {
  return isNumber(a) && isNumber(b) ? BigInt(a) > BigInt(b) : a !== b;
}

function isNumber(text: string): boolean {
  return /^\d{1,30}$/.test(text);
}

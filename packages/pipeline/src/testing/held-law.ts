import { isGuard } from '../conditions.ts';
import { isFinal, partOf } from '../deployment-state.ts';
import { heldObjects, isAsHeld, isFrozen, markOf } from '../held.ts';
import { factsOf, refOf } from '../render.ts';
import { get } from './model-cluster.ts';
import type { World } from './world.ts';

/**
 * What a run holds is as it left it whenever the run rests and knows all that its watches could tell: what others changed
 * of it was put back. Others are people's to decide, or wait for pods.
 */
export function notPutBack({ state, cluster }: World): string[] {
  if (isFinal(state.status) || state.startedAt === null || state.effect !== null || state.doubt !== null) return [];
  if (state.retry !== null) return [];
  const isShort = Object.entries(state.observed).some(([key, { holds }]) => holds && isGuard(key, 'short'));
  return heldObjects(state).flatMap(({ slot, want }) => {
    if (isFrozen(state, slot) || (isShort && want.op === 'weights')) return [];
    const { kind, name } = refOf(state, slot);
    const object = get(cluster, kind, name);
    if (!object && state.track === 'rollBack') return [];
    const isOld = partOf(slot).part === 'oldReplicaSet';
    // As the run found it: its pods may have been on their way out already.
    if (isOld && object?.metadata.resourceVersion === state.objects[slot]?.resourceVersion) return [];
    const facts = object && factsOf(object, state.outline.routes);
    const isKept = facts !== undefined && isAsHeld(want, markOf(state, slot), facts);
    return isKept ? [] : [`${kind} ${name} is not put back while the run rests at ${state.at}`];
  });
}

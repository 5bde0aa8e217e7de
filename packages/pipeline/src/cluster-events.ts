import type { DeploymentState, Slot } from './deployment-state.ts';
import type { KubernetesObject, ObjectRef } from './kubernetes.ts';
import { fieldManager } from './marks.ts';
import { isMending } from './mend.ts';
import { currentInstruction } from './moves.ts';
import { heldBy, narrate, newWarnings, waitingFor } from './narrate.ts';
import { objectWords, refOf } from './render.ts';

/**
 * What a run tells those who look at its objects with kubectl: Kubernetes Events on the root Service and the
 * TrafficSplit, for each weight, each hold and its end, a roll back, and the end.
 */
export type ClusterEvent = { type: 'Normal' | 'Warning'; reason: string; message: string };

/** What became of a run between two states that follow each other, oldest first; mostly nothing. */
export function clusterEventsOf(before: DeploymentState, after: DeploymentState): ClusterEvent[] {
  const words = narrate(before, { type: 'due', at: '' }, after) ?? '';
  if (after.completedAt !== null) return before.completedAt === null ? [endOf(after, words)] : [];
  if (after.rollBack !== null && before.rollBack === null) {
    return [{ type: 'Warning', reason: 'RollingBack', message: withoutVerb(words) }];
  }
  const events: ClusterEvent[] = [];
  const warned = before.effect?.kind === 'survey' ? newWarnings(before, after) : [];
  if (warned.length > 0) events.push({ type: 'Warning', reason: 'Preflight', message: warned.join('; ') });
  const held = heldBy(after);
  const wasHeld = heldBy(before);
  if (held !== null && wasHeld === null) events.push({ type: 'Warning', reason: 'Held', message: held });
  if (
    isMending(before.effect) &&
    before.effect?.kind === 'write' &&
    after.mending === null &&
    after.frozen.length === before.frozen.length
  ) {
    const { slot } = before.effect;
    events.push({
      type: 'Warning',
      reason: 'PutBack',
      message: `${objectWords(before, slot)} was changed by others; it is put back`,
    });
  }
  if (held === null && wasHeld !== null)
    events.push({ type: 'Normal', reason: 'Resumed', message: `Goes on; this is over: ${wasHeld}` });
  const reason = before.at === after.at || words === '' ? null : reasonOfDone(before);
  if (reason === 'CanaryStarted') {
    const message = `Canary of ${after.outline.application} begins (deployment ${after.id}): ${words}`;
    events.push({ type: 'Normal', reason, message });
  } else if (reason !== null) events.push({ type: 'Normal', reason, message: words });
  const pauses = after.status === 'PAUSED' || after.status === 'AWAITING_APPROVAL';
  if (pauses && before.status !== after.status) {
    events.push({ type: 'Normal', reason: 'Paused', message: `Waits for ${waitingFor(after)}` });
  }
  return events;
}

function endOf({ status }: DeploymentState, message: string): ClusterEvent {
  if (status === 'SUCCEEDED') return { type: 'Normal', reason: 'Succeeded', message };
  return { type: 'Warning', reason: status === 'FAILED' ? 'Failed' : 'Cancelled', message: withoutVerb(message) };
}

/** The reason says it already, in the column before. */
function withoutVerb(words: string): string {
  return words.replace(/^(Rolling back|Failed|Cancelled): /, '');
}

/** Of the instructions only those that a user of the Service feels. */
function reasonOfDone(before: DeploymentState): string | null {
  const done = currentInstruction(before);
  if (done.kind !== 'write') return null;
  if (done.id.startsWith('S2.pin')) return 'CanaryStarted';
  if (/^F2\.pin|^F6\.orphan/.test(done.id)) return 'PointOfNoReturn';
  const { op } = done.change;
  return op === 'weights' || (op === 'create' && done.slot.startsWith('split')) ? 'TrafficShifted' : null;
}

/** An object that Events are about, as it is known now. */
export type Subject = { ref: ObjectRef; uid: string };

/** The root Services and TrafficSplits of a run that exist; a root Service that was given back as it was is told to the end. */
export function subjectsOf(state: DeploymentState): Subject[] {
  const given = (state.survey?.routes ?? []).flatMap(({ root }, index) => (root ? [[`root.${index}`, root]] : []));
  const known: DeploymentState['objects'] = { ...Object.fromEntries(given), ...state.objects };
  return (Object.keys(known) as Slot[]).flatMap((slot) => {
    const uid = known[slot]?.uid;
    return uid !== undefined && /^(root|split)/.test(slot) ? [{ ref: refOf(state, slot), uid }] : [];
  });
}

/** Longer messages are refused by the API server. */
const maxMessage = 1000;

/**
 * An Event (core/v1) as Kubernetes' own recorders write it: that form is what every version of kubectl shows.
 *
 * @param name unique in its namespace
 * @param at ISO 8601
 */
export function renderClusterEvent(
  { type, reason, message }: ClusterEvent,
  { ref, uid }: Subject,
  { name, instance, at }: { name: string; instance: string; at: string },
): KubernetesObject {
  const { namespace = 'default' } = ref;
  const second = at.replace(/\.\d+/, '');
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace },
    involvedObject: { apiVersion: ref.apiVersion, kind: ref.kind, namespace, name: ref.name, uid },
    reason,
    message: message.length > maxMessage ? `${message.slice(0, maxMessage - 1)}…` : message,
    type,
    count: 1,
    firstTimestamp: second,
    lastTimestamp: second,
    source: { component: fieldManager },
    reportingComponent: fieldManager,
    reportingInstance: instance,
  };
}

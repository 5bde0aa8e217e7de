import { guardConditions, isGuard, unseenGuard } from './conditions.ts';
import { strangersSeen } from './deployment-object.ts';
import {
  type Condition,
  type DeploymentEvent,
  type DeploymentState,
  type Observation,
  partOf,
} from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import type { Wait } from './instructions.ts';
import { isMending } from './mend.ts';
import { addSeconds, currentInstruction } from './moves.ts';
import { deploymentWaitWords, deploymentWords } from './narrate-deployments.ts';
import { secondsPerUnit } from './plan.ts';
import { objectWords } from './render.ts';

/** What people read of a run: a sentence per event, and what it waits for. For the person at 3 a.m.: no codes, all names. */

/** The sentence of one event, given the state before and after it; null where there is nothing to tell. */
export function narrate(before: DeploymentState, event: DeploymentEvent, after: DeploymentState): string | null {
  if (after.completedAt !== null && before.completedAt === null) return endWords(after);
  if (after.rollBack !== null && before.rollBack === null) return `Rolling back: ${after.rollBack.reason}`;
  if (after.frozen.length > before.frozen.length) return `Attention: ${frozenWords(after)}`;
  if (isMending(before.effect) && (event.type === 'written' || event.type === 'found'))
    return mendedWords(before, event);
  switch (event.type) {
    case 'started':
      return `Deployment of ${after.outline.workloads.map(({ name }) => name).join(', ')} to ${after.outline.account}/${after.outline.namespace} started`;
    case 'surveyed':
      if (before.at === 'F6.survey') return after.retry === null ? null : `Attention: ${after.retry.message}`;
      return preflightWords(before, after);
    case 'observed':
      return null;
    case 'clusterAnswers':
      return 'The cluster answers again';
    case 'approved':
      return before.at === after.at ? null : `${event.by} approved ${event.ref}`;
    case 'refused':
      // A conflict only says that the object moved on: it is read and written again.
      if (event.status === 409) return null;
      // What was to be removed is gone already.
      if (event.status === 404 && isRemoval(before)) return null;
      return `The cluster refused ${phaseWords(before)}: ${event.message}`;
    case 'lost':
      return `Whether the last call to the cluster arrived is not known (${event.message}); the cluster is asked first`;
    case 'unreachable':
      return before.heldSince === null ? `The cluster cannot be reached: ${event.message}; holding` : null;
    case 'checked':
      if (after.at === before.at) return null;
      // A wait that was given up, not one that was met.
      return event.holds ? doneWords(before, event, after) : `Attention: ${after.warnings.at(-1)}`;
    case 'written':
    case 'found':
    case 'due':
      return doneWords(before, event, after);
    default:
      return null;
  }
}

/** What a preflight found. Of what it warns people hear here first, before anything is changed. */
function preflightWords(before: DeploymentState, after: DeploymentState): string {
  const isFirst = after.survey?.workloads.every(({ mode }) => mode === 'first');
  const passed = `Preflight passed${isFirst ? ': no earlier version runs, so the new one goes straight to 100 %' : ''}`;
  return [passed, ...newWarnings(before, after)].join('; attention: ');
}

/** What people are warned of between two states. */
export function newWarnings(before: DeploymentState, after: DeploymentState): string[] {
  return after.warnings.slice(before.warnings.length);
}

/** What was put back. */
function mendedWords(before: DeploymentState, event: DeploymentEvent): string | null {
  if (before.effect?.kind !== 'write' || event.type !== 'written') return null;
  return `${objectWords(before, before.effect.slot)} was changed by others; it is put back`;
}

function frozenWords({ frozen }: DeploymentState): string {
  const details = frozen.map(({ detail }) => detail).join('; ');
  return `${details}; no weight moves until somebody resumes the deployment or rolls it back`;
}

function isFrozen({ frozen, track }: DeploymentState): boolean {
  return frozen.length > 0 && track === 'forward';
}

/** Whether the call in flight takes an object away: while a run finishes or rolls back, scaling goes before deleting. */
function isRemoval({ at, effect }: DeploymentState): boolean {
  if (effect?.kind !== 'write') return false;
  return effect.change.op === 'delete' || (effect.change.op === 'scale' && /^[FR]/.test(at));
}

function endWords(after: DeploymentState): string {
  if (after.status === 'SUCCEEDED') return 'The new version has all traffic; everything auxiliary is gone';
  const left = after.leftInCluster.length > 0 ? `; left in the cluster: ${after.leftInCluster.join('; ')}` : '';
  return `${after.status === 'FAILED' ? 'Failed' : 'Cancelled'}: ${after.error ?? 'no reason recorded'}${left}`;
}

/** The sentence of an `observed` event, said by whoever watches the cluster; null where there is nothing to tell. */
export function narrateObservation(condition: Condition, holds: boolean, detail: string): string | null {
  if (condition.kind === 'noted') return null;
  if (condition.key.startsWith('guard.')) return holds ? `Attention: ${detail}` : `Well again: ${detail}`;
  if (holds && condition.kind === 'mesh') {
    // After F2 the root Service is the new version: 100/0 means something else than before.
    return condition.key.startsWith('F3.mesh.')
      ? `The mesh leads all traffic through Service ${condition.root} again`
      : meshTook(condition);
  }
  if (holds && condition.kind === 'meshDropped') return `The mesh dropped the split of Service ${condition.root}`;
  return detail;
}

/** What has just been done, by the instruction that was left. */
function doneWords(before: DeploymentState, event: DeploymentEvent, after: DeploymentState): string | null {
  if (before.at === after.at) return null;
  const done = currentInstruction(before);
  const [phase, what] = done.id.split('.');
  if (done.kind === 'wait' && done.follows?.includes(after.at)) return `Attention: ${after.warnings.at(-1)}`;
  if (done.kind === 'wait' && done.condition.kind === 'mesh') return meshTook(done.condition);
  const ofDeployment = deploymentWords(before, done);
  if (ofDeployment !== undefined) return ofDeployment;
  if (done.kind === 'write' && done.lookFirst) {
    return event.type === 'written'
      ? `${objectWords(before, done.slot)} had been changed by somebody; it is put back`
      : null;
  }
  if (done.kind === 'wait') return waitedWords(done);
  if (done.kind !== 'write') return null;
  const object = objectWords(before, done.slot);
  switch (phase) {
    case 'P0':
      return `Applied ${object}`;
    case 'S2':
      return `${object} now selects only the previous version`;
    case 'S3':
      return `${object} leads to the new version`;
    case 'S4':
      return done.change.op === 'scale' ? `Scaled ${object} to ${done.change.replicas}` : `Created ${object}`;
    case 'S6':
      return `${object} created: all traffic still goes to the previous version`;
    case 'S7':
    case 'F1':
      return done.change.op === 'weights' ? `${object} set: ${share(done.change.weights.canary)}` : null;
    case 'F2':
      return `${object} now selects the new version; no roll back from here on`;
    case 'F3': {
      const { rootServiceName } = entryAt(before.outline.routes, partOf(done.slot).index);
      return `${object} set: all traffic to Service ${rootServiceName}, the new version now`;
    }
    case 'F4':
    case 'R2':
      return `${object} removed`;
    case 'F6':
      return what === 'delete' ? `The previous version (${object}) is gone` : null;
    case 'F7':
    case 'R5':
      return `${object} is no longer pinned to one version`;
    case 'R1':
      return what === 'weight' ? `${object} set: all traffic goes to the previous version again` : null;
    case 'R4':
      return what === 'delete' ? `The new version (${object}) is gone` : null;
    case 'R6':
      return after.leftInCluster.length > before.leftInCluster.length ? null : `${object} is as it was`;
    default:
      return null;
  }
}

/** What a wait saw come true, where that tells people something. */
function waitedWords({ condition }: Wait): string | null {
  switch (condition.kind) {
    case 'endpoints':
      return condition.ready === null
        ? `The endpoints of Service ${condition.service} are the previous pods`
        : `${condition.ready} new pods are ready behind Service ${condition.service}`;
    case 'podsReady':
      return `${condition.ready} new pods are ready`;
    default:
      return null;
  }
}

function meshTook({ root, weights }: Extract<Condition, { kind: 'mesh' }>): string {
  return `The mesh took ${weights.canary} % of traffic of Service ${root} to the new version`;
}

function share(canary: number): string {
  return `${canary} % of traffic to the new version`;
}

function phaseWords(state: DeploymentState): string {
  return `step ${state.at}`;
}

/** Why the run fails or was ended, in words, from the moment its roll back begins; null while all is well. */
export function errorOf(state: DeploymentState): string | null {
  return state.error ?? state.rollBack?.reason ?? null;
}

/** What the run waits for now, in words; null when it works or is over. */
export function waitingFor(state: DeploymentState): string | null {
  if (state.completedAt !== null || state.startedAt === null) return null;
  if (state.retry !== null && state.heldSince !== null) {
    return `the cluster: ${state.retry.message} (since ${state.heldSince}, next try ${state.retry.until})`;
  }
  if (isFrozen(state)) {
    const { id } = state;
    return `people: ${frozenWords(state)} (POST /deployments/${id}/resume or /deployments/${id}/rollback)`;
  }
  const words = instructionWords(state);
  const attention = attentionOf(state);
  if (attention.length === 0) return words;
  const { kind, id } = currentInstruction(state);
  const held = ['write', 'survey', 'end'].includes(kind) && state.effect === null;
  if (held) return `${attention.join('; ')}; ${heldWords(id)}`;
  return [words, `attention: ${attention.join('; ')}`].filter(Boolean).join('; ');
}

function heldWords(id: string): string {
  if (/^(F7|F8)\.|^end$/.test(id)) return 'the deployment ends once that is over';
  return id.startsWith('S1.') ? 'nothing is begun until that is over' : 'no weight rises until that is over';
}

/** What the guards see that people should know. */
function attentionOf(state: DeploymentState): string[] {
  const isAnything = Object.entries(state.observed).some(([key, { holds }]) => holds && key.startsWith('guard.'));
  const conditions = isAnything ? [...guardConditions(state), { key: unseenGuard }] : [];
  const guards = conditions.flatMap(({ key }) => {
    const seen = state.observed[key];
    if (!seen?.holds) return [];
    const { readyTimeoutSeconds } = state.outline;
    return isGuard(key, 'short') ? [seen.detail + deadlineWords(seen.at, readyTimeoutSeconds)] : [seen.detail];
  });
  return [...guards, ...strangersSeen(state)];
}

/** Why the run does not go on as it should: a cluster that does not do as asked, or what the guards see; null while all is well. */
export function heldBy(state: DeploymentState): string | null {
  if (state.completedAt !== null || state.startedAt === null) return null;
  const { retry, heldSince } = state;
  const waits = retry !== null && heldSince !== null ? [retry.message] : [];
  const frozen = isFrozen(state) ? [frozenWords(state)] : [];
  const parts = [...waits, ...frozen, ...attentionOf(state)];
  return parts.length === 0 ? null : parts.join('; ');
}

function instructionWords(state: DeploymentState): string | null {
  const instruction = currentInstruction(state);
  switch (instruction.kind) {
    case 'wait':
      return conditionWords(state, instruction);
    case 'drain':
      return `connections to drain until ${addSeconds(state.since, state.outline.drainSeconds)}`;
    case 'pause':
      return pauseWords(state, instruction.step ?? 0);
    default:
      return null;
  }
}

function pauseWords(state: DeploymentState, index: number): string {
  const step = state.outline.steps[index];
  if (step?.kind !== 'pause') return `canary-step-${index + 1}`;
  if (!('untilApproved' in step)) {
    return `the end of the pause at ${addSeconds(state.since, secondsPerUnit[step.unit] * step.duration)}`;
  }
  const { approvalExpirationSeconds: seconds } = step;
  return `approval of canary-step-${index + 1}${seconds === null ? '' : ` until ${addSeconds(state.since, seconds)}`}`;
}

function conditionWords(state: DeploymentState, instruction: Wait): string {
  const { limitSeconds, onLimit } = instruction;
  const deadline = onLimit === 'rollBack' && limitSeconds !== null ? deadlineWords(state.since, limitSeconds) : '';
  return eventWords(state, instruction) + deadline;
}

function deadlineWords(since: string, seconds: number): string {
  return `; rolls back at ${addSeconds(since, seconds)}`;
}

/** What a wait waits for. */
function eventWords(state: DeploymentState, instruction: Wait): string {
  const seen = state.observed[instruction.id];
  const detail = seen ? ` (${seen.detail})` : '';
  const { condition } = instruction;
  switch (condition.kind) {
    case 'endpoints':
      return `${countOf(seen, condition.ready)}pods behind Service ${condition.service} to become ready${detail}`;
    case 'podsReady':
      return `${countOf(seen, condition.ready)}pods to become ready${detail}`;
    case 'enough':
      return `the previous version behind Service ${condition.service} to have enough ready pods to take traffic back${detail}`;
    case 'gone':
      return `the pods of ReplicaSet ${condition.replicaSet} to end${detail}`;
    case 'mesh':
      return `the mesh to take ${condition.weights.canary} % of traffic of Service ${condition.root} to the new version${detail}`;
    case 'meshDropped':
      return `the mesh to drop the split of Service ${condition.root}${detail}`;
    default:
      return `${deploymentWaitWords(condition) ?? condition.kind}${detail}`;
  }
}

/** How many pods are waited for, where what was seen of them does not say. */
function countOf(seen: Observation | undefined, ready: number | null): string {
  return seen || ready === null ? '' : `${ready} `;
}

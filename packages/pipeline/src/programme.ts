import type { DeploymentState, Ground, Survey } from './deployment-state.ts';
import { forwardProgramme } from './forward-programme.ts';
import type { Instruction } from './instructions.ts';
import { rollBackProgramme } from './roll-back-programme.ts';

/**
 * The order of work of one deployment, as a list of instructions (design.md, "The SMI canary, write by write"):
 *
 *   P   preflight, before any change          F1  all traffic to the new pods, drain
 *   P0  the other objects                     F2  root Services to the new pods   <- no return
 *   S1  preflight again                       F3  weights 100/0 (both lead to new pods), drain
 *   S2  root Services pinned to the old pods  F4  the splits away
 *   S3  canary Services                       F5  canary Services away or restored
 *   S4  new ReplicaSets, scaled up            F6  old ReplicaSets away
 *   S5  their pods ready behind the canaries  F7  root Services as the user wrote them
 *   S6  splits at 100/0
 *   S7  a weight a step                       R1  all traffic to the old pods again, drain
 *                                             R2  the splits away
 *                                             R3  canary Services away or restored
 *                                             R4  new ReplicaSets away
 *                                             R5  root Services as the user wrote them
 *   F8  a Deployment object where one is kept R6  the other objects as they were
 *                                             R7  a Deployment object that was kept before
 *
 * Each of these is done for all pairs of the target before the next begins. A crash between any two instructions leaves
 * traffic where it was. The lists are derived from the state alone, so that the state needs to say only which instruction
 * it is at.
 */
export function programmeOf(state: DeploymentState): Instruction[] {
  if (state.track === 'rollBack') return rollBackProgramme(state);
  return wayForward(state).list;
}

type WayForward = Pick<Ground, 'outline' | 'hashes'> & { list: Instruction[]; noReturn: string | undefined };

/** By survey. One decision asks for its programme some thirty times, and the next ones for the same one again. */
const waysForward = new WeakMap<Survey, WayForward>();

function wayForward({ outline, hashes, survey }: Ground): WayForward {
  const known = survey === null ? undefined : waysForward.get(survey);
  if (known?.outline === outline && known.hashes === hashes) return known;
  const list = survey === null ? undecided : forwardProgramme({ outline, hashes, survey });
  const noReturn = list.find(({ id }) => /^(F2\.pin|F6\.(orphan|scale)|F8\.create)\./.test(id))?.id;
  const way = { outline, hashes, list, noReturn };
  if (survey !== null) waysForward.set(survey, way);
  return way;
}

const undecided: Instruction[] = [{ id: 'P.survey', kind: 'survey' }];

/**
 * From the commit of the first F2's intent on there is no roll back (design.md, law 4), unless that write certainly did
 * not and will not happen. Where no traffic is split, the old version's end is that point, and that of a Deployment which
 * is taken over; on a first version, that a Deployment object comes to own it.
 */
export function isPastReturn(state: DeploymentState): boolean {
  if (state.track === 'rollBack') return false;
  if (state.noReturn) return true;
  if (state.at !== noReturnOf(state)) return false;
  return state.effect !== null || state.doubt !== null || state.unsettled !== null;
}

/** Id of the write that takes the way back; undefined where nothing does. */
export function noReturnOf(state: DeploymentState): string | undefined {
  return state.track === 'rollBack' ? undefined : wayForward(state).noReturn;
}

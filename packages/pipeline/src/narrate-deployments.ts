import type { Condition, DeploymentState } from './deployment-state.ts';
import type { Instruction } from './instructions.ts';
import { objectWords } from './render.ts';

/** What people read where Deployment objects are about. */

/** What has been done by an instruction of adoption-programme.ts; undefined where it is none of those. */
export function deploymentWords(before: DeploymentState, done: Instruction): string | null | undefined {
  if (done.kind === 'wait') return waitedFor(done.id, done.condition);
  if (done.kind !== 'write') return undefined;
  const object = objectWords(before, done.slot);
  const [phase, what] = done.id.split('.');
  switch (`${phase}.${what}`) {
    case 'S1.orphan':
      return `${object}, kept by an earlier deployment, is set aside; its pods serve on`;
    case 'S1.unlabel':
    case 'R7.unlabel':
      return `${object} carries labels of ours alone, so that no Deployment takes it`;
    case 'F6.orphan':
      return `${object} is taken over: deleted without its pods; no roll back from here on`;
    case 'F6.empty':
      return `Scaled ${object} to 0`;
    case 'F6.clear':
      return `The previous version (${object}) is gone`;
    case 'F8.create':
    case 'R7.create':
      return `Created ${object}, paused until it owns its ReplicaSet`;
    case 'F8.label':
    case 'R7.label':
      return `${object} carries the labels that its Deployment looks for`;
    case 'F8.resume':
    case 'R7.resume':
      return `${object} stands over the pods that run, as you wrote it`;
    default:
      return undefined;
  }
}

function waitedFor(id: string, condition: Condition): string | null | undefined {
  if (condition.kind === 'noDeployment') return `Deployment ${condition.deployment} is gone, its ReplicaSets are free`;
  if (condition.kind === 'adopted')
    return id.includes('.settled.')
      ? null
      : `Deployment ${condition.deployment} owns ReplicaSet ${condition.replicaSet}; no pod was started or ended for it`;
  // That the new pods are ready is told once, before.
  if (condition.kind === 'empty' || /^(F6\.(pods|full)|F7\.ready)\./.test(id)) return null;
  return undefined;
}

/** What such a wait waits for; undefined where it is none of these. */
export function deploymentWaitWords(condition: Condition): string | undefined {
  switch (condition.kind) {
    case 'noDeployment':
      return `Deployment ${condition.deployment} to be gone`;
    case 'adopted':
      return `Deployment ${condition.deployment} to own ReplicaSet ${condition.replicaSet}`;
    case 'empty':
      return `the pods of ReplicaSet ${condition.replicaSet} to end`;
    default:
      return undefined;
  }
}

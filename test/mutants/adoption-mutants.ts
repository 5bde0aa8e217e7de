import type { Mutant } from './mutant-runner.ts';

/** Wrong ways to go about Deployment objects, one line each, and the law test that must notice. */
export const mutants: Mutant[] = [
  {
    name: 'a Deployment is deleted with its pods',
    file: 'render.ts',
    line: '...(change.orphan ? { orphan: true } : {}),',
    instead: '',
    killedBy: 'law 5',
  },
  {
    name: 'a Deployment is taken over before the new pods are ready',
    file: 'conditions.ts',
    line: 'return { holds: ready >= condition.ready, detail',
    instead: 'return { holds: true, detail',
    killedBy: 'law 5',
  },
  {
    name: 'a Deployment that is being taken over can be rolled back',
    file: 'programme.ts',
    line: '(orphan|scale)',
    instead: '(scale)',
    killedBy: 'law 4',
  },
  {
    name: 'a roll back begins while a lost deletion of a Deployment may still arrive',
    file: 'outcomes.ts',
    line: "const isOfOld = ['oldReplicaSet', 'deployment'].includes(partOf(slot).part);",
    instead: "const isOfOld = ['oldReplicaSet'].includes(partOf(slot).part);",
    killedBy: 'law 4',
  },
  {
    name: 'a Deployment is created at once as it shall be',
    file: 'render-deployment.ts',
    line: 'replicas, paused: true, template',
    instead: 'replicas, template',
    killedBy: 'law 5',
  },
  {
    name: 'the user’s labels stay on the ReplicaSet when its Deployment is set aside',
    file: 'adoption-programme.ts',
    line: "mode === 'canary' && old?.labels",
    instead: "mode === 'first' && old?.labels",
    killedBy: 'law 5',
  },
  {
    name: 'a roll back leaves a Deployment away that was kept',
    file: 'roll-back-programme.ts',
    line: '...restoreDeployments(state),',
    instead: '',
    killedBy: 'law 4',
  },
  {
    name: 'a ReplicaSet gets the user’s labels where there is no Deployment of ours',
    file: 'adoption-programme.ts',
    line: 'return made && !isThere(index);',
    instead: 'return false;',
    killedBy: 'law 5',
  },
  {
    name: 'weights rise beside somebody’s Deployment',
    file: 'guards.ts',
    line: " || isGuard(key, 'deployment');",
    instead: ';',
    killedBy: 'law 5',
  },
  {
    name: 'root is set free beside somebody’s Deployment',
    file: 'deployment-object.ts',
    line: '|F7\\.unpin\\.|F8\\.create\\.|end$)/.test(id)) return null;\n  return deploymentGuards',
    instead: '|F8\\.create\\.|end$)/.test(id)) return null;\n  return deploymentGuards',
    killedBy: 'law 5',
  },
];

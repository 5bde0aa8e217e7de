import type { Mutant } from './mutant-runner.ts';

/** Wrong ways to end a run, one line each, and the test of packages/pipeline/src/run-end.test.ts that must notice. */
export const mutants: Mutant[] = [
  {
    name: 'a run ends without a last look at the new version',
    file: 'forward-programme.ts',
    line: 'const running = workloads.filter((index) => entryAt(outline.workloads, index).replicas > 0);',
    instead: 'const running: number[] = [];',
    killedBy: 'fails a run whose new ReplicaSet is gone',
  },
  {
    name: 'a ReplicaSet gets the user’s labels beside a Deployment that would take it',
    file: 'deployment-claims.ts',
    line: '(unpin|create|label)',
    instead: '(unpin)',
    killedBy: 'keeps the new ReplicaSet from getting the labels',
  },
  {
    name: 'root is set free beside a Deployment whose pods it would select',
    file: 'deployment-claims.ts',
    line: '(unpin|create|label)',
    instead: '(create|label)',
    killedBy: 'keeps root on the new pods',
  },
  {
    name: 'the new version’s pods are given up past the point of no return',
    file: 'mend.ts',
    line: "if (isPastReturn(state) && partOf(slot).part === 'newReplicaSet' && state.mending !== null) {",
    instead: 'if (state.mending === undefined) {',
    killedBy: 'and before it pods that somebody takes away again and again',
  },
];

import type { Mutant } from './mutant-runner.ts';

const file = 'pipeline-machine.ts';

/** Wrong versions of the pipeline machine, one line each, and the law test that must notice. */
export const mutants: Mutant[] = [
  {
    name: 'a target begins when one of its dependencies has SUCCEEDED',
    file,
    line: 'openDependencies(targets, waiting).length === 0',
    instead: 'openDependencies(targets, waiting).length < Math.max(waiting.dependsOn.length, 1)',
    killedBy: 'law: no target begins before',
  },
  {
    name: 'targets begin one after the other',
    file,
    line: "      effects.push({ kind: 'startDeployment', deployment });",
    instead: "      effects.push({ kind: 'startDeployment', deployment });\n      return;",
    killedBy: 'law: every target whose dependencies have SUCCEEDED begins at once',
  },
  {
    name: 'targets begin in the decision after the one in which they may',
    file,
    line: 'if (state.begun && state.cancelledBy === null) tellWaiting(state, effects);',
    instead: 'if (before.begun && state.cancelledBy === null) tellWaiting(state, effects);',
    killedBy: 'law: every target whose dependencies have SUCCEEDED begins at once',
  },
  {
    name: 'a cancelled dependency is waited for for ever',
    file,
    line: "const own = ended === 'FAILED' || ended === 'CANCELLED' ?",
    instead: "const own = ended === 'FAILED' ?",
    killedBy: 'law: an end is always in reach',
  },
  {
    name: 'only those that depend on the failed target itself are told',
    file,
    line: 'const cause = causeBefore(targets, dependency, known) ?? own;',
    instead: 'const cause = own;',
    killedBy: 'law: a target that depends on one that failed',
  },
  {
    name: 'every waiting target is withdrawn when any fails',
    file,
    line: 'const cause = causeBefore(targets, waiting, causes);',
    instead:
      "const lost = state.targets.find(({ ended }) => ended === 'FAILED'); const cause = lost ? { target: lost.target, status: 'FAILED' as const } : causeBefore(targets, waiting, causes);",
    killedBy: 'law: a target is withdrawn for no other reason',
  },
  {
    name: 'targets begin after a cancel',
    file,
    line: 'if (state.begun && state.cancelledBy === null) tellWaiting(state, effects);',
    instead: 'if (state.begun) tellWaiting(state, effects);',
    killedBy: 'law: nothing begins once a pipeline is cancelled',
  },
  {
    name: 'a cancel reaches only what has begun',
    file,
    line: "if (ended === null && told !== 'withdraw') effects.push({ kind: 'cancelDeployment'",
    instead: "if (ended === null && told === 'start') effects.push({ kind: 'cancelDeployment'",
    killedBy: 'law: a cancel reaches every target',
  },
  {
    name: 'what was told to begin is not remembered',
    file,
    line: "waiting.told = 'start';",
    instead: '',
    killedBy: 'law: a target is told to begin or to be withdrawn, never both, and each once',
  },
  {
    name: 'what was withdrawn is not remembered',
    file,
    line: "waiting.told = 'withdraw';",
    instead: '',
    killedBy: 'law: a target is told to begin or to be withdrawn, never both, and each once',
  },
  {
    name: 'a second end replaces the first',
    file,
    line: 'if (target) target.ended ??= event.status;',
    instead: 'if (target) target.ended = event.status;',
    killedBy: 'law: what is told again changes nothing',
  },
  {
    name: 'a pipeline that has ended goes on',
    file,
    line: "if (before.status !== 'RUNNING') return { state: before, effects: [] };",
    instead: '',
    killedBy: 'law: what is told again changes nothing',
  },
  {
    name: 'a second cancel is told again',
    file,
    line: 'if (state.cancelledBy !== null) break;',
    instead: '',
    killedBy: 'law: what is told again changes nothing',
  },
  {
    name: 'a pipeline is over when one target has failed',
    file,
    line: "if (ends.includes(null)) return 'RUNNING';",
    instead: "if (ends.includes(null) && !ends.includes('FAILED')) return 'RUNNING';",
    killedBy: 'law: it has ended when all its targets have',
  },
  {
    name: 'CANCELLED comes before FAILED',
    file,
    line: "if (ends.includes('FAILED')) return 'FAILED';",
    instead: "if (ends.includes('FAILED') && state.cancelledBy === null) return 'FAILED';",
    killedBy: 'law: it has ended when all its targets have',
  },
  {
    name: 'a cancelled pipeline whose last target finished has SUCCEEDED',
    file,
    line: "if (state.cancelledBy !== null || ends.includes('CANCELLED')) return 'CANCELLED';",
    instead: "if (ends.includes('CANCELLED')) return 'CANCELLED';",
    killedBy: 'law: it has ended when all its targets have',
  },
];

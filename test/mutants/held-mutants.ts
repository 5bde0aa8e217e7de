import type { Mutant } from './mutant-runner.ts';

/** Wrong ways to put back what others change, one line each, and the law test that must notice. */
export const mutants: Mutant[] = [
  {
    name: 'what others change is not looked at',
    file: 'mend.ts',
    line: 'if (state.mending === null && state.disturbed.length === 0) return null;',
    instead: 'if (state.mending === null) return null;',
    killedBy: 'while held',
    within: '[20, 60] and every edit',
  },
  {
    name: 'weights are given back before the pin is',
    file: 'mend.ts',
    line: "const isFirst = partOf(slot).part !== 'split' ||",
    instead: 'const isFirst = true ||',
    killedBy: 'law 1',
    within: '[60] and any two of edits and failing pods, stored',
  },
  {
    name: 'weights are given back to pods that are not there',
    file: 'mend.ts',
    line: "raiseHeldBy(state, { id: '', slot, change: want }) === null",
    instead: 'true',
    killedBy: 'law 1',
    within: '[60] and any two of edits and failing pods, stored',
  },
  {
    name: 'what was resumed stays frozen',
    file: 'mend.ts',
    line: 'Object.assign(state, { frozen: [], fights: [] });',
    instead: 'state.fights = [];',
    killedBy: 'law 4',
    within: '[20, 60] and every edit',
  },
];

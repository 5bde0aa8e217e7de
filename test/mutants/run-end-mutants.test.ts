import { testMutants } from './mutant-runner.ts';
import { mutants } from './run-end-mutants.ts';

testMutants('one-line mutants of the end of a run', {
  mutants,
  lawTests: 'run-end.test.ts',
  isLaw: () => true,
});

import { testMutants } from './mutant-runner.ts';
import { mutants } from './pipeline-mutants.ts';

testMutants('one-line mutants of the pipeline machine', {
  mutants,
  lawTests: 'pipeline-laws.test.ts',
  isLaw: (title) => title.startsWith('law: '),
});

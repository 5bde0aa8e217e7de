import { mutants } from './adoption-mutants.ts';
import { testMutants } from './mutant-runner.ts';

testMutants('one-line mutants of what is done with Deployment objects', {
  mutants,
  lawTests: 'testing/adoption-cases.ts',
  isLaw: (title) => /^(law \d|driving)/.test(title),
});

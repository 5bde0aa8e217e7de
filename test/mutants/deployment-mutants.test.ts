import { mutants } from './deployment-mutants.ts';
import { testMutants } from './mutant-runner.ts';

testMutants('one-line mutants of the deployment machine', {
  mutants,
  lawTests: 'deployment-laws.test.ts',
  isLaw: (title) => /^(law \d|driving)/.test(title),
});

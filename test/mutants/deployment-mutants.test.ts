import { mutants } from './deployment-mutants.ts';
import { testMutants } from './mutant-runner.ts';

testMutants('one-line mutants of the deployment machine', {
  mutants,
  lawTests: 'testing/deployment-cases.ts',
  isLaw: (title) => /^(law \d|driving)/.test(title),
});

import { mutants } from './held-mutants.ts';
import { testMutants } from './mutant-runner.ts';

testMutants('one-line mutants of what is held', {
  mutants,
  lawTests: 'testing/held-cases.ts',
  isLaw: (title) => /^(law \d|while held|driving)/.test(title),
});

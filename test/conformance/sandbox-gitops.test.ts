import { withoutKubectl } from '../support/kubectl.ts';
import { runGitOps } from './gitops.ts';
import { runOtherHands } from './other-hands.ts';

runGitOps(
  'sandbox',
  async (world) => {
    const where = await world.cluster();
    return { where, direct: where.sandbox };
  },
  withoutKubectl,
);
runOtherHands('sandbox', (world) => world.cluster());

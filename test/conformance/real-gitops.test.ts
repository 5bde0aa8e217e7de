import { withoutKubectl } from '../support/kubectl.ts';
import { useRealCluster, withoutRealCluster } from '../support/real-cluster.ts';
import { openRealCluster } from '../support/real-test-cluster.ts';
import { runGitOps } from './gitops.ts';
import { runOtherHands } from './other-hands.ts';

runGitOps(
  'real',
  async () => {
    const direct = await useRealCluster();
    return { where: await openRealCluster(), direct, close: () => direct.stop() };
  },
  withoutRealCluster || withoutKubectl,
);
runOtherHands('real', openRealCluster, withoutRealCluster);

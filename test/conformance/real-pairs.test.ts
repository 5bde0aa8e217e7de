import { withoutRealCluster } from '../support/real-cluster.ts';
import { openRealCluster } from '../support/real-test-cluster.ts';
import { runPairs } from './pairs.ts';

runPairs('real', openRealCluster, withoutRealCluster);

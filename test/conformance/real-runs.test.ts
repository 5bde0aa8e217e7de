import { withoutRealCluster } from '../support/real-cluster.ts';
import { openRealCluster } from '../support/real-test-cluster.ts';
import { runDeployments } from './runs.ts';

runDeployments('real', openRealCluster, withoutRealCluster);

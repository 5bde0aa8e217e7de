import { withoutRealCluster } from '../support/real-cluster.ts';
import { openRealCluster } from '../support/real-test-cluster.ts';
import { runAdoptions } from './adoption.ts';

runAdoptions('real', openRealCluster, withoutRealCluster);

import { withoutRealCluster } from '../support/real-cluster.ts';
import { openRealSubject } from './real-subject.ts';
import { runConformance } from './suite.ts';

runConformance('real', openRealSubject, withoutRealCluster);

import { openSandboxSubject } from './sandbox-subject.ts';
import { runConformance } from './suite.ts';

runConformance('sandbox', openSandboxSubject);

import { runDeployments } from './runs.ts';

runDeployments('sandbox', (world) => world.cluster());

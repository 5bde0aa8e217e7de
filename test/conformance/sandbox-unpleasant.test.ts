import { runUnpleasant } from './unpleasant.ts';

runUnpleasant('sandbox', (world) => world.cluster());

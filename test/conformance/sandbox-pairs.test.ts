import { runPairs } from './pairs.ts';

runPairs('sandbox', (world) => world.cluster());

import { runAdoptions } from '../conformance/adoption.ts';

runAdoptions('sandbox', (world) => world.cluster());

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StrategyStep } from './plan.ts';
import { noReturnOf, programmeOf } from './programme.ts';
import { driveUntil } from './testing/drive.ts';
import { frozen } from './testing/frozen.ts';
import { samplePairs } from './testing/samples.ts';
import { createSetup, createWorld, type Setup, type World } from './testing/world.ts';

const steps: StrategyStep[] = [
  { kind: 'pause', duration: 1, unit: 'SECONDS' },
  { kind: 'setWeight', weight: 10 },
  { kind: 'pause', untilApproved: true, approvalExpirationSeconds: 60 },
];

/** Drives to the end and looks at every state on the way. */
function each(setup: Setup, begun: World, look: (world: World) => void): World {
  return driveUntil(setup, begun, (world) => {
    look(world);
    return false;
  });
}

for (const [name, options] of Object.entries({
  'one pair': { objects: true },
  'a first version': { first: true },
  'a given canary Service': { given: true },
  ...Object.fromEntries(Object.entries(samplePairs).map(([name, pairs]) => [`${name} pairs`, { pairs }])),
})) {
  test(`with ${name}, what is kept of a programme is what its state asks for now, in every state of a run`, () => {
    for (const mesh of ['linkerd-smi', 'stored'] as const) {
      const setup = createSetup({ steps, mesh, ...options });
      let looked = 0;
      const end = each(setup, createWorld(setup), ({ state }) => {
        looked += 1;
        const stored = structuredClone(state);
        assert.deepEqual(programmeOf(frozen(state)), programmeOf(stored), state.at);
        assert.equal(noReturnOf(state), noReturnOf(stored));
        // Frozen, so that whoever changes an instruction changes it for all states, and is found out.
        frozen(programmeOf(state));
      });
      assert.ok(looked > 10, end.state.at);
    }
  });
}

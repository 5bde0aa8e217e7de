import { isFinal } from '../deployment-state.ts';
import { type Action, act, type Setup, type World } from './world.ts';

/** Moves on while all goes well, until a state is as asked for or nothing but people can move it. */
export function driveUntil(setup: Setup, begun: World, reached: (world: World) => boolean = () => false): World {
  const order: Action[] = [
    { do: 'start' },
    { do: 'tell' },
    { do: 'settle' },
    { do: 'look' },
    { do: 'perform', how: 'ok' },
    { do: 'due' },
  ];
  let world = begun;
  for (let moves = 0; moves < 1000 && !reached(world); moves += 1) {
    if (isFinal(world.state.status)) return world;
    const next = order.reduce<World | null>((done, action) => done ?? act(setup, world, action)?.world ?? null, null);
    if (next === null) return world;
    world = next;
  }
  return world;
}

/** One action that must be possible. */
export function must(setup: Setup, world: World, action: Action): World {
  const done = act(setup, world, action);
  if (done === null) throw new Error(`${action.do} is not possible at ${world.state.at}`);
  return done.world;
}

import { stringify } from 'yaml';
import { type Shop, shopFile } from './deployment-files.ts';
import { type Run, tell } from './run.ts';
import type { AnyScene, Scene, World } from './world.ts';

/** After which other targets one comes, and its steps. */
export type Stop = { dependsOn?: string[]; steps?: unknown[] };

/** An application with several targets, each in a namespace of its own. */
export type Train<Name extends string, Place extends AnyScene = Scene> = {
  scenes: Record<Name, Place>;
  /** A deployment file that brings one version to some of the targets, in this order. */
  yaml(stops: Partial<Record<Name, Stop>>, shop: Partial<Shop> & { version: string }): string;
  /** Starts such a file; the runs by target. */
  start<Chosen extends Name>(
    stops: Record<Chosen, Stop>,
    shop: Partial<Shop> & { version: string },
  ): Promise<Record<Chosen, Run>>;
};

/** @param scenes by target; the first one's tenant starts them all */
export function trainOf<Name extends string, Place extends AnyScene = Scene>(
  scenes: Record<Name, Place>,
): Train<Name, Place> {
  const [first] = Object.values<Place>(scenes);
  if (first === undefined) throw new Error('a train has at least one target');
  const train: Train<Name, Place> = {
    scenes,
    yaml(stops, shop) {
      const named = Object.entries<Stop | undefined>(stops) as [Name, Stop][];
      const { namespace, account } = first;
      const file = shopFile({ application: `train-${namespace}`, namespace, account, ...shop });
      const targets = named.map(([name, { dependsOn }]) => {
        const { account: at, namespace: into } = scenes[name];
        const constraints = dependsOn === undefined ? {} : { constraints: { dependsOn } };
        return [name, { account: at, namespace: into, strategy: name, ...constraints }];
      });
      const strategies = named.map(([name, { steps = [] }]) => [name, { canary: { steps } }]);
      return stringify({
        ...file,
        targets: Object.fromEntries(targets),
        strategies: Object.fromEntries(strategies),
      });
    },
    async start(stops, shop) {
      const runs = await first.tenant.startAll({ yaml: train.yaml(stops as Partial<Record<Name, Stop>>, shop) });
      return Object.fromEntries(runs) as Record<keyof typeof stops, Run>;
    },
  };
  return train;
}

/** A train whose targets all run version 1 of it. */
export async function openTrain<Name extends string>(world: World, ...names: Name[]): Promise<Train<Name>> {
  const scenes = await Promise.all(names.map(async (name) => [name, await world.scene()] as const));
  const train = trainOf(Object.fromEntries(scenes) as Record<Name, Scene>);
  await bringVersion1(train, ...names);
  return train;
}

export async function bringVersion1<Name extends string>(
  train: Train<Name, AnyScene>,
  ...names: Name[]
): Promise<void> {
  const stops = Object.fromEntries(names.map((name) => [name, {}])) as Record<Name, Stop>;
  const runs = await train.start(stops, { version: '1' });
  for (const run of Object.values<Run>(runs)) {
    const seen = await run.end(60_000);
    if (seen.status !== 'SUCCEEDED') throw new Error(`the first deployment did not succeed\n${tell(seen)}`);
  }
}

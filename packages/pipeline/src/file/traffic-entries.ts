import { at, exists, items, text, type View } from './view.ts';

export const trafficKinds = ['smi', 'istio', 'kubernetes'] as const;
export type TrafficKind = (typeof trafficKinds)[number];

/** One entry of a list in one item of trafficManagement. */
export type TrafficEntry = { kind: TrafficKind; item: number; view: View };

/** The entries that cover a target; an item without targets covers all. */
export function trafficOf(root: View, target: string): TrafficEntry[] {
  return items(at(root, 'trafficManagement')).flatMap((item, index) => {
    const names = items(at(item, 'targets')).map(text);
    if (names.length > 0 && !names.includes(target)) return [];
    return trafficKinds.flatMap((kind) => items(at(item, kind)).map((view) => ({ kind, item: index, view })));
  });
}

/** An `smi` entry with the defaults of spec/deployment-file.md §10. */
export function smiNames(
  entry: View,
): { root: string; canary: string; canaryGiven: boolean; split: string } | undefined {
  const root = text(at(entry, 'rootServiceName'));
  if (root === undefined) return undefined;
  const canary = text(at(entry, 'canaryServiceName'));
  return {
    root,
    canary: canary ?? `${root}-canary`,
    canaryGiven: canary !== undefined,
    split: text(at(entry, 'trafficSplitName')) ?? root,
  };
}

/** Whether the strategy of a target is canary or blueGreen; undefined where it is neither or both. */
export function strategyKind(root: View, target: View): 'canary' | 'blueGreen' | undefined {
  const name = text(at(target, 'strategy'));
  if (name === undefined) return undefined;
  const strategy = at(root, 'strategies', name);
  const canary = exists(at(strategy, 'canary'));
  const blueGreen = exists(at(strategy, 'blueGreen'));
  return canary === blueGreen ? undefined : canary ? 'canary' : 'blueGreen';
}

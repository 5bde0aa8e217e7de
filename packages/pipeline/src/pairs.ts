import type { Ground, OldVersion } from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import type { SmiRoute } from './plan.ts';

/**
 * A route and the workload that it leads to, where both an old and a new version run: traffic is shifted between them.
 * All pairs of a target go in lock step, in the order of their routes.
 */
export type Pair = {
  /** Of the route, and so of its slots and instructions. */
  index: number;
  route: SmiRoute;
  /** Index of the workload. */
  workload: number;
  /** Pods that the new version asks for. */
  replicas: number;
  /** Of the new version. */
  hash: string;
  old: OldVersion;
};

export function pairsOf({ survey, outline, hashes }: Ground): Pair[] {
  if (survey === null) return [];
  return survey.pairs.flatMap((workload, index) => {
    const { mode, old } = entryAt(survey.workloads, workload);
    if (mode !== 'canary' || old === null) return [];
    const { replicas } = entryAt(outline.workloads, workload);
    return [{ index, route: entryAt(outline.routes, index), workload, replicas, hash: entryAt(hashes, workload), old }];
  });
}

/** One pair for each workload that has any: what is done to a workload is done once, however many routes lead to it. */
export function byWorkload(pairs: readonly Pair[]): Pair[] {
  return pairs
    .filter(({ workload }, index) => pairs.findIndex((pair) => pair.workload === workload) === index)
    .toSorted((a, b) => a.workload - b.workload);
}

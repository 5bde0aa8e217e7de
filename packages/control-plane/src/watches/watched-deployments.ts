import { shownText } from '@cdaas/contract/text.ts';
import type { ClusterView } from '@cdaas/pipeline/conditions.ts';
import { activeConditions, evaluate, isTurn, type Sight } from '@cdaas/pipeline/conditions.ts';
import type { Condition, DeploymentState } from '@cdaas/pipeline/deployment-state.ts';
import { interestsOf } from './cluster-cache.ts';

/**
 * What the deployments of one cluster wait for and were told. Only what is news to a deployment is reported: a condition
 * that turned, and why pods are not ready, whenever that changes.
 */

export type Watched = {
  id: string;
  version: number;
  namespace: string;
  conditions: Condition[];
  /** By condition key: what the deployment was last told, and by which of its events. */
  told: Map<string, Told>;
  /** Driven by another worker, so that it may have moved on meanwhile. */
  elsewhere: boolean;
};

/** `number`: of the event that told it; infinite while that is on its way. */
export type Told = { holds: boolean; trouble: string; seen: string; number: number };

export type Report = { watched: Watched; condition: Condition } & Sight;

/** `folded`: the newest event that a state holds; `reports`: what the deployment was told since, by whoever watched before. */
export type Since = { folded: number; reports: [key: string, told: Told][]; elsewhere: boolean };

export type WatchedDeployments = {
  /** Takes note of what a deployment waits for; answers whether that is anything new. */
  note(id: string, version: number, state: DeploymentState, since: Since): boolean;
  forget(id: string): void;
  get(id: string): Watched | undefined;
  all(): Iterable<Watched>;
  /** Puts a deployment last in the order of `all`. */
  toEnd(id: string): void;
  size(): number;
  /** The deployments that look at any of these interests. */
  interestedIn(interests: Iterable<string>): Set<string>;
};

export function createWatchedDeployments(): WatchedDeployments {
  const deployments = new Map<string, Watched>();
  const byInterest = new Map<string, Set<string>>();

  const forget = (id: string): void => {
    const known = deployments.get(id);
    if (!known) return;
    deployments.delete(id);
    for (const interest of known.conditions.flatMap(interestsOf)) {
      const ids = byInterest.get(interest);
      ids?.delete(id);
      if (ids?.size === 0) byInterest.delete(interest);
    }
  };

  return {
    forget,
    note(id, version, state, since) {
      const known = deployments.get(id);
      if (known && known.version > version) return false;
      forget(id);
      const conditions = activeConditions(state);
      if (conditions.length === 0) return false;
      const told = toldOf(conditions, state, since, known);
      const { namespace } = state.outline;
      deployments.set(id, { id, version, namespace, conditions, told, elsewhere: since.elsewhere });
      for (const interest of conditions.flatMap(interestsOf)) {
        const ids = byInterest.get(interest);
        if (ids) ids.add(id);
        else byInterest.set(interest, new Set([id]));
      }
      const before = new Set(known?.conditions.map(({ key }) => key));
      return conditions.some(({ key }) => !before.has(key));
    },
    get: (id) => deployments.get(id),
    all: () => deployments.values(),
    toEnd(id) {
      const known = deployments.get(id);
      if (!known) return;
      deployments.delete(id);
      deployments.set(id, known);
    },
    size: () => deployments.size,
    interestedIn: (interests) => new Set([...interests].flatMap((interest) => [...(byInterest.get(interest) ?? [])])),
  };
}

function toldOf(conditions: Condition[], state: DeploymentState, since: Since, known: Watched | undefined) {
  const told = new Map<string, Told>();
  for (const { key } of conditions) {
    const seen = state.observed[key];
    if (seen) told.set(key, toldBy(seen, 0));
    const unfolded = known?.told.get(key);
    if (unfolded && unfolded.number > since.folded) told.set(key, unfolded);
  }
  for (const [key, report] of since.reports) told.set(key, report);
  return told;
}

/** Names and reasons in it are the cluster's. */
const longestDetail = 1_000;

/** What a view of the cluster has to tell a deployment, out of the given conditions. */
export function newsOf(watched: Watched, conditions: Condition[], view: ClusterView): Report[] {
  return conditions.flatMap((condition) => {
    const sight = evaluate(condition, view);
    const shown = { ...sight, detail: shownText(sight.detail, longestDetail) };
    return isNews(watched, condition, shown) ? [{ watched, condition, ...shown }] : [];
  });
}

/** What a deployment knows once it was told of a sight. */
export function toldBy({ holds, detail, seen }: Sight, number: number): Told {
  return { holds, trouble: troubleOf(detail), seen: seen ?? '', number };
}

function isNews(watched: Watched, { key, kind }: Condition, sight: Sight): boolean {
  const told = watched.told.get(key);
  const { holds, detail } = sight;
  if (kind === 'changed') return isTurn(told, sight);
  const trouble = troubleOf(detail);
  // A guard that never tripped is well; why the pods of a guard that is well are not ready is nobody's worry.
  const guard = key.startsWith('guard.');
  if (!told) return holds || (trouble !== '' && !guard);
  return told.holds !== holds || (trouble !== '' && told.trouble !== trouble && (holds || !guard));
}

/** The part of a detail that names Kubernetes' reasons, without their counts, after how many pods are ready in spite of them. */
function troubleOf(detail: string): string {
  const reasons = /\(([^)]*)\)/.exec(detail)?.[1]?.replace(/\b\d+ (in )?/g, '') ?? '';
  return reasons === '' ? '' : `${/^\d+/.exec(detail)?.[0] ?? ''} ${reasons}`;
}

import type { Condition, DeploymentState } from './deployment-state.ts';
import { newReplicaSetName } from './deployment-state.ts';
import { entryAt } from './entry-at.ts';
import { deploymentKey, hashKey } from './marks.ts';
import { pairsOf } from './pairs.ts';

/**
 * Deployments of other names that appear beside a run (a preflight refuses those that stand there). As long as our
 * ReplicaSets carry labels of ours alone and the root Services are pinned they do no harm. They would the moment a
 * ReplicaSet gets the user's labels for the Deployment that is kept, when they would take it and end its pods; and the
 * moment a root Service is free, when their pods would get a share of its traffic.
 */
export function claimGuards(state: DeploymentState): Condition[] {
  const { survey, outline, id: run } = state;
  if (survey === null || state.at === 'P.survey') return [];
  const { namespace } = outline;
  const but = outline.workloads.map(({ name }) => name);
  const claimants = outline.workloads.flatMap((_, index): Condition[] => {
    const worn = wornBy(state, index);
    if (worn === null) return [];
    return [{ key: `guard.claimant.${index}`, namespace, kind: 'claimant', ...worn, but, run }];
  });
  const sharers = pairsOf(state).map(
    ({ index, route }): Condition => ({
      key: `guard.sharer.${index}`,
      namespace,
      kind: 'sharer',
      service: route.rootServiceName,
      but,
      run,
    }),
  );
  return [...claimants, ...sharers];
}

/** The ReplicaSet of a workload that is to be a Deployment's in the end, with the labels that it has then. */
function wornBy(state: DeploymentState, index: number): { replicaSet: string; labels: Record<string, string> } | null {
  const { outline, hashes, survey, undo, track, id } = state;
  if (track === 'rollBack') {
    const { old } = survey?.workloads[index] ?? {};
    if (!undo?.deployments?.[index] || !old?.labels) return null;
    return { replicaSet: old.name, labels: { ...old.labels, [hashKey]: old.hash } };
  }
  const { keptLabels } = entryAt(outline.workloads, index);
  if (!keptLabels) return null;
  const labels = { ...keptLabels, [hashKey]: entryAt(hashes, index), [deploymentKey]: id };
  return { replicaSet: newReplicaSetName(state, index), labels };
}

/** What keeps a run from letting go of a ReplicaSet or a root Service. */
export function heldByClaim(state: DeploymentState, id: string): Condition | null {
  const [, phase, what, index] = /^(F7|F8|R7)\.(unpin|create|label)\.(\d+)$/.exec(id) ?? [];
  if (phase === undefined) return null;
  // Where the Deployment of before is not to be had, its ReplicaSet gets no labels either.
  const isMade = state.undo?.deployments?.[Number(index)]?.removed === true;
  if (phase === 'R7' && what === 'label' && isMade && !state.objects[`deployment.${Number(index)}`]) return null;
  const kind = phase === 'F7' ? 'sharer' : 'claimant';
  return claimGuards(state).find((guard) => guard.kind === kind && state.observed[guard.key]?.holds) ?? null;
}

/** What a roll back leaves of those: root is free, and their pods get traffic. */
export function sharerLines(state: DeploymentState): string[] {
  return claimGuards(state).flatMap(({ key, kind }) => {
    const seen = kind === 'sharer' ? state.observed[key] : undefined;
    return seen?.holds ? [seen.detail] : [];
  });
}

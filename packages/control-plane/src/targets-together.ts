import type { Violation } from '@cdaas/contract/errors.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import type { Claim } from './transitions.ts';

/** What checking the targets of one start against each other takes to know of each. */
export type TargetTogether = { name: string; plan: DeploymentPlan; claims: readonly Claim[] };

/**
 * Two targets of a start that would drive the same object: at the same time the second is refused it, and later the
 * version that runs there belongs to another target. Accounts say nothing of it, because two of them may be one cluster.
 */
export function checkTogether(targets: readonly TargetTogether[]): Violation[] {
  const holders = new Map<string, string>();
  return targets.flatMap(({ name, claims }) => {
    const keys = claims.map(({ clusterUid, namespace, kind, name: object }) => ({
      key: JSON.stringify([clusterUid, namespace, kind, object]),
      words: `${kind} ${namespace}/${object}`,
    }));
    const taken = keys.find(({ key }) => holders.has(key));
    if (taken !== undefined) return [conflict(name, holders.get(taken.key) ?? '', taken.words)];
    for (const { key } of keys) holders.set(key, name);
    return [];
  });
}

function conflict(name: string, other: string, object: string): Violation {
  return {
    code: 'traffic.conflict',
    path: `/targets/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    message: `targets '${other}' and '${name}' would both drive ${object} of one cluster`,
    hint: 'Give them different namespaces.',
  };
}

/** All plans of a start are stored in one transaction; each target has a copy of its manifests. */
const maxPlanCharacters = 32 * 1024 * 1024;

/** Refuses a start whose manifests, repeated for each of its targets, are too much to store. */
export function checkSize(targets: readonly Pick<TargetTogether, 'plan'>[], max = maxPlanCharacters): Violation[] {
  let characters = 0;
  for (const { plan } of targets) {
    characters += JSON.stringify(plan).length;
    if (characters <= max) continue;
    const message = `the manifests of all ${targets.length} targets together have more than ${max / 1024 / 1024} million characters`;
    const hint = 'Start fewer targets at once (targetFilters), or leave large objects out.';
    return [{ code: 'field.range', path: '/targets', message, hint }];
  }
  return [];
}

import type { Violation } from '@cdaas/contract/errors.ts';
import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import type { Claim } from './transitions.ts';

/** What checking the targets of one start against each other takes to know of each. */
export type TargetTogether = {
  name: string;
  plan: DeploymentPlan;
  /** Names of the targets that end before it begins. */
  dependsOn: readonly string[];
  claims: readonly Claim[];
};

/**
 * Two targets that drive the same object at the same time: the second would fail as it begins. One after the other they
 * may. Accounts say nothing of it, because two of them may be one cluster.
 */
export function checkTogether(targets: readonly TargetTogether[]): Violation[] {
  const dependencies = new Map(targets.map(({ name, dependsOn }) => [name, dependsOn]));
  const before = new Map<string, Set<string>>();
  const allBefore = (name: string): Set<string> => {
    const known = before.get(name);
    if (known !== undefined) return known;
    const all = new Set<string>();
    before.set(name, all);
    for (const dependency of dependencies.get(name) ?? []) {
      all.add(dependency);
      for (const earlier of allBefore(dependency)) all.add(earlier);
    }
    return all;
  };

  const holders = new Map<string, string[]>();
  const found: Violation[] = [];
  for (const { name, claims } of targets) {
    let told = false;
    for (const { clusterUid, namespace, kind, name: object } of claims) {
      const key = JSON.stringify([clusterUid, namespace, kind, object]);
      const others = holders.get(key) ?? [];
      const other = others.find((holder) => !allBefore(name).has(holder) && !allBefore(holder).has(name));
      if (other !== undefined && !told) {
        found.push(conflict(name, other, `${kind} ${namespace}/${object}`));
        told = true;
      }
      holders.set(key, [...others, name]);
    }
  }
  return found;
}

function conflict(name: string, other: string, object: string): Violation {
  return {
    code: 'traffic.conflict',
    path: `/targets/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    message: `targets '${other}' and '${name}' would drive ${object} of one cluster at the same time`,
    hint: 'Give them different namespaces, or let one depend on the other (constraints.dependsOn).',
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

import { isRecord } from '../is-record.ts';
import { didYouMean } from './hints.ts';
import { isDnsLabel } from './kubernetes-names.ts';
import { checkTargetNames } from './rules-file.ts';
import { unfitForName } from './schema-fields.ts';
import type { LocatedDocument } from './source.ts';
import { at, entries, exists, items, text, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten, toWords } from './words.ts';

/** Rules of targets and of everything that names one (spec/deployment-file.md §2 targetFilters, §4, §5 targets). */
export function checkTargets(root: View, accountOverride: string | undefined, report: Report): void {
  const strategies = entries(at(root, 'strategies')).map(([name]) => name);
  for (const [name, target] of entries(at(root, 'targets'))) {
    if (!isRecord(target.value)) continue;
    if (name.trim() === '' || name.length > 253 || unfitForName.test(name)) {
      report.violation('field.range', target.path, 'the name of a target must have 1 to 253 characters, on one line', {
        onKey: true,
      });
    }
    const account = at(target, 'account');
    if (accountOverride === undefined && (!exists(account) || account.value === '')) {
      report.violation(
        'field.required',
        account.path,
        `${toWords(account.path)} is required: the name of a cluster account`,
      );
    }
    const namespace = text(at(target, 'namespace'));
    if (namespace !== undefined && !isDnsLabel(namespace)) {
      const { path } = at(target, 'namespace');
      report.violation(
        'field.type',
        path,
        `${toWords(path)} must be the name of a namespace (at most 63 of a-z, 0-9 and -), not '${shorten(namespace)}'`,
      );
    }
    const strategy = text(at(target, 'strategy'));
    if (strategy !== undefined && strategy.trim() !== '' && !strategies.includes(strategy)) {
      const hint = didYouMean(strategy, strategies);
      report.violation(
        'ref.strategy',
        at(target, 'strategy').path,
        `strategy '${shorten(strategy)}' is not in strategies`,
        { hint },
      );
    }
    const dependsOn = at(target, 'constraints', 'dependsOn');
    checkTargetNames(root, dependsOn, report);
    if (Array.isArray(dependsOn.value) && dependsOn.value.length === 0) {
      report.warning(dependsOn.path, `${toWords(dependsOn.path)} is empty and is ignored`);
    }
  }
  checkTargetNames(root, at(root, 'targetFilters'), report, (item) => at(item, 'includeTarget'));
  for (const manifest of items(at(root, 'manifests'))) checkTargetNames(root, at(manifest, 'targets'), report);
  for (const item of items(at(root, 'trafficManagement'))) checkTargetNames(root, at(item, 'targets'), report);
  checkCycles(root, report);
  warnOfLeftOut(root, report);
}

/** A target that targetFilters leave out counts as done for those that depend on it (spec/behaviour.md §1). */
function warnOfLeftOut(root: View, report: Report): void {
  const all = new Set(entries(at(root, 'targets')).map(([name]) => name));
  const active = activeTargets(root);
  const chosen = new Set(active.map(([name]) => name));
  for (const [name, target] of active) {
    for (const item of items(at(target, 'constraints', 'dependsOn'))) {
      const dependency = text(item);
      if (dependency === undefined || chosen.has(dependency) || !all.has(dependency)) continue;
      report.warning(
        item.path,
        `target '${shorten(name)}' does not wait for '${shorten(dependency)}', which targetFilters leave out`,
      );
    }
  }
}

/** One violation per circle, at the dependsOn of its first target. */
function checkCycles(root: View, report: Report): void {
  const targets = new Map(entries(at(root, 'targets')));
  const dependencies = (name: string): string[] =>
    items(at(targets.get(name)!, 'constraints', 'dependsOn')).flatMap((item) => {
      const dependency = text(item);
      return dependency !== undefined && targets.has(dependency) ? [dependency] : [];
    });
  const done = new Set<string>();
  const told = new Set<string>();
  const trail: string[] = [];
  const visit = (name: string): void => {
    if (done.has(name)) return;
    const start = trail.indexOf(name);
    if (start >= 0) {
      const circle = trail.slice(start);
      if (circle.some((member) => told.has(member))) return;
      for (const member of circle) told.add(member);
      const { path } = at(targets.get(name)!, 'constraints', 'dependsOn');
      const words = [...circle, name].map((member) => `'${shorten(member)}'`).join(' -> ');
      report.violation(
        'target.cycle',
        path,
        circle.length === 1
          ? `target ${words.split(' ->')[0]} depends on itself`
          : `targets depend on each other in a circle: ${words}`,
      );
      return;
    }
    trail.push(name);
    for (const dependency of dependencies(name)) visit(dependency);
    trail.pop();
    done.add(name);
  };
  for (const name of targets.keys()) visit(name);
}

/**
 * The targets that this start is for, by name: those of targetFilters, or all.
 *
 * @param file gives their order as it was written; without it, names that are whole numbers come first
 */
export function activeTargets(root: View, file?: Pick<LocatedDocument, 'place'>): [string, View][] {
  const wanted = new Set(items(at(root, 'targetFilters')).flatMap((item) => text(at(item, 'includeTarget')) ?? []));
  const all = entries(at(root, 'targets'));
  const places = file?.place.children?.get('targets')?.children;
  const orderOf = (name: string): number => places?.get(name)?.order ?? 0;
  const active = wanted.size === 0 ? all : all.filter(([name]) => wanted.has(name));
  return active.sort(([a], [b]) => orderOf(a) - orderOf(b));
}

/** By target: those among the given ones that it depends on, each once. */
export function dependenciesOf(targets: readonly [string, View][]): Map<string, string[]> {
  const active = new Set(targets.map(([name]) => name));
  return new Map(
    targets.map(([name, target]) => {
      const named = items(at(target, 'constraints', 'dependsOn')).flatMap((item) => text(item) ?? []);
      return [name, [...new Set(named)].filter((dependency) => active.has(dependency))];
    }),
  );
}

import { slipOf } from './hints.ts';
import { isDnsLabel, isDnsSubdomain } from './kubernetes-names.ts';
import { checkPairs } from './pairs.ts';
import { checkServiceName } from './rules-file.ts';
import { checkRunObjects } from './run-objects.ts';
import type { TargetObjects } from './target-objects.ts';
import { smiNames, strategyKind, type TrafficEntry, type TrafficKind, trafficOf } from './traffic-entries.ts';
import { at, entries, items, text, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten, toWords } from './words.ts';

/** Rules of trafficManagement and of what targets make of it (spec/deployment-file.md §6.6, §10; design.md, preflight). */
export function checkTraffic(root: View, assembled: Map<string, TargetObjects>, report: Report): void {
  for (const item of items(at(root, 'trafficManagement'))) {
    for (const entry of items(at(item, 'smi'))) checkSmiEntry(entry, report);
    for (const entry of items(at(item, 'kubernetes'))) {
      const active = text(at(entry, 'activeService'));
      checkServiceName(at(entry, 'activeService'), report);
      checkServiceName(at(entry, 'previewService'), report);
      if (active === undefined || active !== text(at(entry, 'previewService'))) continue;
      const { path } = at(entry, 'previewService');
      report.violation(
        'service.same',
        path,
        `activeService and previewService are both '${shorten(active)}'; they must differ`,
      );
    }
  }
  for (const [name, target] of entries(at(root, 'targets'))) {
    const kind = strategyKind(root, target);
    const covering = trafficOf(root, name);
    warnIgnored(name, kind, covering, report);
    if (kind === 'blueGreen') checkBlueGreen(root, name, target, covering, report);
    const objects = assembled.get(name);
    checkConflicts(name, kind, covering, objects?.deployments.length ?? 0, report);
    if (kind !== 'canary' || objects === undefined) continue;
    checkPairs(name, covering, objects, report);
    warnOfSlips(covering, objects, report);
    checkRunObjects(covering, objects);
  }
}

function checkSmiEntry(entry: View, report: Report): void {
  checkServiceName(at(entry, 'rootServiceName'), report);
  checkServiceName(at(entry, 'canaryServiceName'), report);
  const split = at(entry, 'trafficSplitName');
  if (split.value !== '' && text(split) !== undefined && !isDnsSubdomain(text(split)!)) {
    report.violation(
      'field.type',
      split.path,
      `${toWords(split.path)} must be the name of an object (a-z, 0-9, - and .)`,
    );
  }
  const names = smiNames(entry);
  if (names === undefined) return;
  if (names.canary === names.root) {
    const { path } = at(entry, 'canaryServiceName');
    report.violation(
      'traffic.conflict',
      path,
      `canaryServiceName and rootServiceName are both '${shorten(names.root)}'; they must differ`,
    );
  }
  if (!names.canaryGiven && isDnsLabel(names.root) && names.canary.length > 63) {
    const { path } = at(entry, 'rootServiceName');
    report.violation(
      'field.range',
      path,
      `the canary Service would be named '${names.canary}', which is longer than 63 characters`,
      {
        hint: 'give canaryServiceName',
      },
    );
  }
}

function warnIgnored(
  target: string,
  kind: 'canary' | 'blueGreen' | undefined,
  covering: TrafficEntry[],
  report: Report,
): void {
  const told = new Set<string>();
  for (const entry of covering) {
    const ignored =
      kind === 'blueGreen' ? entry.kind !== 'kubernetes' : kind === 'canary' && entry.kind === 'kubernetes';
    const list = entry.view.path.slice(0, -1);
    if (!ignored || told.has(toWords(list))) continue;
    told.add(toWords(list));
    report.warning(list, `${toWords(list)} is ignored for target '${shorten(target)}': its strategy is ${kind}`);
  }
}

/** A blue/green target needs an active Service, here or, deprecated, in the strategy; not two different answers. */
function checkBlueGreen(root: View, name: string, target: View, covering: TrafficEntry[], report: Report): void {
  const blueGreen = at(root, 'strategies', text(at(target, 'strategy'))!, 'blueGreen');
  const legacy = pairOf(blueGreen);
  const pairs = covering.filter(({ kind }) => kind === 'kubernetes').map(({ view }) => pairOf(view));
  if (legacy.active === undefined && pairs.length === 0) {
    const { path } = at(target, 'strategy');
    report.violation('service.missing', path, `target '${shorten(name)}' is blue/green and needs an active Service`, {
      hint: 'add trafficManagement: [{kubernetes: [{activeService: …}]}]',
    });
  }
  const other = pairs.find(
    ({ active, preview }) => active !== legacy.active || (legacy.preview !== undefined && preview !== legacy.preview),
  );
  if (legacy.active !== undefined && other !== undefined) {
    const { path } = at(blueGreen, 'activeService');
    report.violation(
      'traffic.conflict',
      path,
      `the strategy and trafficManagement name different Services for target '${shorten(name)}'`,
    );
  }
}

function pairOf(view: View): { active: string | undefined; preview: string | undefined } {
  return { active: text(at(view, 'activeService')), preview: text(at(view, 'previewService')) };
}

/** What cannot both be true for one target. With one Deployment there, every entry of a kind is about that one. */
function checkConflicts(
  target: string,
  kind: 'canary' | 'blueGreen' | undefined,
  covering: TrafficEntry[],
  deployments: number,
  report: Report,
): void {
  const of = (wanted: TrafficKind): TrafficEntry[] => covering.filter((entry) => entry.kind === wanted);
  const [smi] = of('smi');
  const [istio] = of('istio');
  if (kind === 'canary' && smi !== undefined && istio !== undefined) {
    const later = istio.item >= smi.item ? istio : smi;
    const list = later.view.path.slice(0, -1);
    report.violation(
      'traffic.conflict',
      list,
      `target '${shorten(target)}' is covered by both smi and istio; choose one`,
    );
  }
  for (const wanted of kind === 'canary' ? (['smi', 'istio'] as const) : (['kubernetes'] as const)) {
    const [first, ...rest] = of(wanted);
    const second = rest.find((entry) => entry.item !== first?.item);
    if (kind === undefined || second === undefined || deployments > 1) continue;
    const list = second.view.path.slice(0, -1);
    report.violation(
      'traffic.conflict',
      list,
      `two items of trafficManagement give ${wanted} for target '${shorten(target)}'`,
    );
  }
  const owners = new Map<string, string>();
  for (const { view } of kind === 'canary' ? of('smi') : []) {
    const names = smiNames(view);
    if (names === undefined) continue;
    for (const [what, name] of [
      ['Service', names.root],
      ['Service', names.canary],
      ['TrafficSplit', names.split],
    ] as const) {
      const key = `${what} ${name}`;
      const owner = owners.get(key);
      if (owner !== undefined && owner !== toWords(view.path)) {
        report.violation(
          'traffic.conflict',
          view.path,
          `${what} '${shorten(name)}' is used by both ${owner} and ${toWords(view.path)}`,
        );
      }
      owners.set(key, toWords(view.path));
    }
  }
}

/** A root Service may be in the cluster already; one that is nearly a Service of the manifests probably is that one. */
function warnOfSlips(covering: TrafficEntry[], { deployments, others }: TargetObjects, report: Report): void {
  const namespace = deployments[0]?.object.metadata.namespace;
  const services = others.flatMap(({ object: { apiVersion, kind, metadata } }) =>
    kind === 'Service' && apiVersion === 'v1' && metadata.namespace === namespace ? [metadata.name] : [],
  );
  for (const { kind, view } of covering) {
    const root = at(view, 'rootServiceName');
    const name = kind === 'smi' ? text(root) : undefined;
    const meant = name === undefined ? undefined : slipOf(name, services);
    if (name === undefined || meant === undefined) continue;
    const words = `${toWords(root.path)}: Service '${shorten(name)}' is not in the manifests; did you mean '${shorten(meant)}'?`;
    report.warning(root.path, words);
  }
}

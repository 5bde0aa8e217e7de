import { isRecord } from '../is-record.ts';
import type { ManifestObject } from './manifests.ts';
import type { TargetObjects } from './target-objects.ts';
import { smiNames, type TrafficEntry } from './traffic-entries.ts';
import { at, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten } from './words.ts';
import { selectorMatches } from './workload.ts';

/** The state of a run, which each of its transitions stores, grows with every one; and so, one for one, do Deployments. */
const mostEntries = 50;

/**
 * Which Deployment of a target each `smi` entry leads to: the one whose pods its root Service selects, as far as the
 * manifests tell (spec/deployment-file.md §10). The preflight decides where a Service is in the cluster only.
 */
export function checkPairs(target: string, covering: TrafficEntry[], objects: TargetObjects, report: Report): void {
  const { deployments } = objects;
  if (deployments.length === 0) return;
  const entries = covering.filter(({ kind }) => kind === 'smi');
  const tooMany = entries[mostEntries];
  if (tooMany !== undefined) {
    const message = `target '${shorten(target)}' has ${entries.length} smi entries; ${mostEntries} are allowed`;
    return report.violation('field.range', tooMany.view.path, message);
  }
  const itemOf = new Map<ManifestObject, number>();
  let unknown = 0;
  for (const { view, item } of entries) {
    const names = smiNames(view);
    if (names === undefined) return;
    const led = behind(names.root, objects);
    if (led !== undefined && led.length !== 1)
      refuseRoot(at(view, 'rootServiceName'), names.root, led, objects, report);
    const only = led?.length === 1 ? led[0] : undefined;
    if (names.canaryGiven) checkCanary(at(view, 'canaryServiceName'), names.canary, only, objects, report);
    if (only === undefined) {
      unknown += 1;
      continue;
    }
    if (deployments.length > 1 && (itemOf.get(only) ?? item) !== item) {
      const message = `two items of trafficManagement give smi for Deployment '${nameOf(only)}' of target '${shorten(target)}'`;
      report.violation('traffic.conflict', view.path.slice(0, -1), message);
    }
    itemOf.set(only, item);
  }
  const unrouted = deployments.filter((deployment) => !itemOf.has(deployment));
  if (entries.length === 0 || unrouted.length <= unknown) return;
  const names = unrouted.map((deployment) => `'${nameOf(deployment)}'`).join(', ');
  const each =
    unknown === 0 ? `no smi entry leads to Deployment ${names}` : `too few smi entries for Deployments ${names}`;
  for (const { refuse } of unrouted.slice(unknown)) {
    const hint = 'add an smi entry whose root Service selects its pods';
    refuse('step.unsupported', ['kind'], `not supported yet: splitting traffic by the number of pods (${each})`, hint);
  }
}

/** The Deployments whose pods a Service of the manifests selects; undefined where it is not there. */
function behind(service: string, { deployments, others }: TargetObjects): ManifestObject[] | undefined {
  const namespace = deployments[0]?.object.metadata.namespace;
  const found = others.find(
    ({ object: { kind, apiVersion, metadata } }) =>
      kind === 'Service' && apiVersion === 'v1' && metadata.name === service && metadata.namespace === namespace,
  );
  if (found === undefined) return undefined;
  const { spec } = found.object;
  const selector = isRecord(spec) ? spec.selector : undefined;
  return deployments.filter(({ object }) => {
    const labels = at({ value: object, path: [] }, 'spec', 'template', 'metadata', 'labels').value;
    return selectorMatches(selector, labels);
  });
}

function refuseRoot(
  { path }: View,
  service: string,
  led: ManifestObject[],
  { deployments }: TargetObjects,
  report: Report,
): void {
  const all = (led.length === 0 ? deployments : led).map((deployment) => `'${nameOf(deployment)}'`).join(', ');
  const message =
    led.length === 0
      ? `the selector of Service '${shorten(service)}' does not match the pods of Deployment ${all}`
      : `the selector of Service '${shorten(service)}' matches the pods of several Deployments: ${all}`;
  report.violation('traffic.conflict', path, message);
}

/** A canary Service of the manifests must be able to lead to the Deployment that its root leads to. */
function checkCanary(
  { path }: View,
  service: string,
  wanted: ManifestObject | undefined,
  objects: TargetObjects,
  report: Report,
): void {
  const led = behind(service, objects);
  if (led === undefined || (wanted === undefined ? led.length > 0 : led.includes(wanted))) return;
  const all = (wanted === undefined ? objects.deployments : [wanted]).map((each) => `'${nameOf(each)}'`).join(', ');
  const message = `the selector of Service '${shorten(service)}' does not match the pods of Deployment ${all}`;
  report.violation('traffic.conflict', path, message);
}

function nameOf({ object }: ManifestObject): string {
  return shorten(object.metadata.name);
}

import { groupOf } from './kubernetes-names.ts';
import type { TargetObjects } from './target-objects.ts';
import { smiNames, type TrafficEntry } from './traffic-entries.ts';
import { at, items, text, type View } from './view.ts';
import { shorten, toWords } from './words.ts';

/**
 * Objects of the manifests that a canary writes itself, or that take its root Service away from it. They would be applied,
 * change live traffic, and only then fail the target.
 */
export function checkRunObjects(covering: TrafficEntry[], { deployments, others }: TargetObjects): void {
  const namespace = deployments[0]?.object.metadata.namespace;
  if (namespace === undefined) return;
  for (const { kind, view } of covering) {
    const names = kind === 'smi' ? smiNames(view) : undefined;
    if (names === undefined) continue;
    const entry = toWords(view.path);
    const root = `Service '${shorten(names.root)}' (${entry})`;
    for (const { object, refuse } of others) {
      const { name } = object.metadata;
      const isHere = object.metadata.namespace === namespace;
      const spec = at({ value: object, path: [] }, 'spec');
      switch (`${groupOf(object.apiVersion)}/${object.kind}`) {
        case 'split.smi-spec.io/TrafficSplit':
          if (isHere && name === names.split)
            refuse(
              'traffic.conflict',
              ['metadata', 'name'],
              `the run splits ${root} by a TrafficSplit of this name`,
              leave,
            );
          else if (isHere && names.root === serviceOf(spec))
            refuse('traffic.conflict', ['spec', 'service'], `it splits ${root}, which the run splits itself`, leave);
          break;
        case '/Service':
          if (isHere && !names.canaryGiven && name === names.canary) {
            const message = `the run creates and removes a canary Service of this name for ${root}`;
            const hint = `leave it out, or give canaryServiceName: ${shorten(names.canary)} to have this one used`;
            refuse('traffic.conflict', ['metadata', 'name'], message, hint);
          }
          break;
        case 'linkerd.io/ServiceProfile':
          if (name.startsWith(`${names.root}.${namespace}.svc.`) && items(at(spec, 'dstOverrides')).length > 0) {
            const message = `its dstOverrides lead the traffic of ${root} elsewhere, where the run splits it itself`;
            refuse('traffic.conflict', ['spec', 'dstOverrides'], message, 'leave dstOverrides out');
          }
          break;
      }
    }
  }
}

const leave = 'leave it out: the run writes its own and removes it';

/** `spec.service` of a TrafficSplit, which may be a plain name or a longer one. */
function serviceOf(spec: View): string | undefined {
  return text(at(spec, 'service'))?.split('.')[0];
}

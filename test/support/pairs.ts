import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';
import { hashKey } from '@cdaas/pipeline/marks.ts';
import { type Moment, momentsOf, type Recording } from './recorder.ts';

/** Targets of several Deployments, each with a root Service of its name: what happened to one of them, and their lock step. */

/** The part of a recording that is about the Deployment, root Service and split of one name. */
export function ofPair(recording: Recording, name: string): Recording {
  const names = new RegExp(`^${name}(-|\\.|$)`);
  const isOf = ({ metadata }: KubernetesObject) => names.test(metadata.name);
  return {
    namespace: recording.namespace,
    before: new Map([...recording.before].filter(([, object]) => isOf(object))),
    changes: recording.changes.filter(({ object }) => isOf(object)),
    writes: recording.writes.filter(({ path, body }) => {
      const created = (body as { metadata?: { name?: string } } | undefined)?.metadata?.name;
      return names.test(created ?? path.split('/').at(-1) ?? '');
    }),
  };
}

/**
 * Where pairs got out of step, in words: a weight raised while another pair is more than one step behind, a root Service
 * turned to the new version before every mesh sends all traffic to the canaries, or a split removed while another pair's
 * canary has weight.
 *
 * @param weights that the canaries go through, from 0 to 100
 */
export function outOfStep(recording: Recording, names: string[], weights: number[]): string[] {
  const broken: string[] = [];
  /** The versions that each root Service was pinned to, the old one first. */
  const pins = new Map(names.map((name) => [name, new Set<string>()]));
  let before: Moment | undefined;
  for (const { change, moment } of momentsOf(recording)) {
    const name = change?.object.metadata.name ?? '';
    const stored = names.map((each) => weightOf(moment, each));
    if (change?.kind === 'TrafficSplit' && change.type === 'MODIFIED') {
      const raised = weightOf(moment, name) > (before ? weightOf(before, name) : 0);
      const behind = stored.some((weight) => weights.indexOf(weight) < weights.indexOf(weightOf(moment, name)) - 1);
      if (raised && behind) broken.push(`${name} was raised, and ${names.join(', ')} are at ${stored.join(', ')}`);
    }
    if (change?.kind === 'TrafficSplit' && change.type === 'DELETED' && stored.some((weight) => weight > 0)) {
      broken.push(`the split of ${name} went while ${names.join(', ')} are at ${stored.join(', ')}`);
    }
    const pin = change?.kind === 'Service' ? pinOf(change.object) : undefined;
    const isFirstTurn = pin !== undefined && pins.get(name)?.size === 1 && !pins.get(name)?.has(pin);
    if (pin !== undefined) pins.get(name)?.add(pin);
    const turned = [...pins.values()].filter(({ size }) => size > 1).length;
    if (isFirstTurn && turned === 1) {
      const shares = names.map((each) => before?.meshWeights(each)[`${each}-canary`] ?? 0);
      if (shares.some((share) => share !== 100))
        broken.push(`${name} was turned while the meshes are at ${shares.join(', ')}`);
    }
    before = moment;
  }
  return broken;
}

/** The weight of a canary as stored. */
function weightOf(moment: Moment, name: string): number {
  const split = moment.get('TrafficSplit', name)?.spec as { backends: { weight: number }[] } | undefined;
  return split?.backends[1]?.weight ?? 0;
}

function pinOf(service: KubernetesObject): string | undefined {
  return (service.spec as { selector?: Record<string, string> }).selector?.[hashKey];
}

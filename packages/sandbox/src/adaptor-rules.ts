/**
 * What Linkerd's SMI adaptor 0.2.7 does with a TrafficSplit, apart from where it reads and writes: the sandbox's own
 * adaptor and a stand-in beside a real cluster both go by it. Deleting a split empties the overrides of its root's
 * ServiceProfile, which stays; weights are texts, zero is written out.
 */
import { equal, type Fields, type ServiceProfile, type TrafficSplit } from './objects.ts';

export type AdaptorLimits = {
  /** Milliseconds from a change of a split to the ServiceProfile. */
  lagMs: number;
  /** How many splits it takes in a second; 0: any number. */
  perSecond: number;
  /** While true it does nothing; when it comes up again it takes all splits that are there. */
  down: boolean;
  /** Whether it takes no notice of deleted splits. */
  forgetsDeletes: boolean;
};

/** Its workload: the adaptor is up while that has an available pod. */
export const workload = { namespace: 'linkerd-smi', name: 'smi-adaptor' };
export const workloadLabels = { 'linkerd.io/extension': 'smi', component: 'smi-adaptor' };
export const workloadImage = 'cr.l5d.io/linkerd/smi-adaptor:v0.2.7';

const skipAnnotation = 'smi.linkerd.io/skip';

/** The name of a Service's ServiceProfile. */
export function authorityOf(service: string, namespace: string): string {
  return `${service}.${namespace}.svc.cluster.local`;
}

/** Answers after how many milliseconds the split is taken that is asked about now. */
export function createPace(limits: AdaptorLimits): () => number {
  let freeAt = 0;
  return () => {
    const now = Date.now();
    freeAt = limits.perSecond > 0 ? Math.max(now, freeAt) + 1000 / limits.perSecond : now;
    return limits.lagMs + (freeAt - now);
  };
}

/**
 * The spec that the root's ServiceProfile gets; undefined where the adaptor leaves it alone.
 *
 * @param split undefined where it was deleted
 * @param profile undefined where there is none
 */
export function specAfter(
  split: TrafficSplit | undefined,
  profile: ServiceProfile | undefined,
  namespace: string,
  limits: AdaptorLimits,
): Fields | undefined {
  if (profile?.metadata.annotations?.[skipAnnotation] !== undefined) return undefined;
  if (!split && (!profile || limits.forgetsDeletes)) return undefined;
  const { dstOverrides: _, ...kept }: Fields = profile?.spec ?? {};
  const spec = split ? { ...kept, dstOverrides: overridesOf(split, namespace) } : kept;
  return equal(profile?.spec, spec) ? undefined : spec;
}

function overridesOf({ spec }: TrafficSplit, namespace: string): { authority: string; weight: string }[] {
  return spec.backends.map(({ service, weight }) => ({
    authority: authorityOf(service, namespace),
    weight: String(weight),
  }));
}

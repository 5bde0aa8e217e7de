import type { Weights } from '../deployment-state.ts';
import { isRecord } from '../is-record.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import type { SmiRoute } from '../plan.ts';

/** SMI TrafficSplit (split.smi-spec.io) and what Linkerd's adaptor makes of it. */

export const splitGroup = 'split.smi-spec.io';

/** The versions this project can write, the preferred first (design.md: v1alpha2, v1alpha1, v1alpha4, v1alpha3). */
export const splitVersions = ['v1alpha2', 'v1alpha1', 'v1alpha4', 'v1alpha3'] as const;

/** The version to write, out of those the cluster serves; undefined where it serves none. */
export function chooseSplitApiVersion(served: readonly string[]): string | undefined {
  const version = splitVersions.find((candidate) => served.includes(candidate));
  return version && `${splitGroup}/${version}`;
}

/**
 * Whether a cluster takes the weights of a TrafficSplit only as strings, by the schema that it publishes for the kind
 * (OpenAPI v3). Where it publishes none, or allows both, it takes integers.
 */
export function wantsStringWeights(schema: unknown): boolean {
  const path = ['properties', 'spec', 'properties', 'backends', 'items', 'properties', 'weight', 'type'];
  const type = path.reduce<unknown>((value, key) => (isRecord(value) ? value[key] : undefined), schema);
  return type === 'string';
}

/**
 * `spec` of the TrafficSplit: both backends always present, zero written out, whole integers out of 100; as strings
 * where the cluster's schema wants those.
 */
export function splitSpec(route: SmiRoute, weights: Weights, asStrings = false) {
  const written = (weight: number) => (asStrings ? String(weight) : weight);
  return {
    service: route.rootServiceName,
    backends: [
      { service: route.rootServiceName, weight: written(weights.stable) },
      { service: route.canaryServiceName, weight: written(weights.canary) },
    ],
  };
}

/** The weights a TrafficSplit has now; null where its backends are not exactly root and canary. */
export function splitWeights(split: KubernetesObject, route: SmiRoute): Weights | null {
  const spec = split.spec as { service?: unknown; backends?: { service?: unknown; weight?: unknown }[] } | undefined;
  if (spec?.service !== route.rootServiceName || spec.backends?.length !== 2) return null;
  const stable = quantity(spec.backends.find(({ service }) => service === route.rootServiceName)?.weight);
  const canary = quantity(spec.backends.find(({ service }) => service === route.canaryServiceName)?.weight);
  return stable === null || canary === null ? null : { stable, canary };
}

/**
 * The weights in a ServiceProfile's `dstOverrides` (linkerd.io/v1alpha2), as Linkerd's SMI adaptor 0.2.7 writes them:
 * authorities `<service>.<namespace>.svc.<domain>`, perhaps with a port. Null where they are not exactly root and canary.
 */
export function meshWeights(profile: KubernetesObject | undefined, root: string, canary: string): Weights | null {
  const overrides = (profile?.spec as { dstOverrides?: { authority?: unknown; weight?: unknown }[] } | undefined)
    ?.dstOverrides;
  if (overrides?.length !== 2) return null;
  const of = (service: string) =>
    quantity(overrides.find(({ authority }) => String(authority).split('.')[0] === service)?.weight);
  const stable = of(root);
  const toCanary = of(canary);
  return stable === null || toCanary === null ? null : { stable, canary: toCanary };
}

export function sameWeights(a: Weights, b: Weights | null | undefined): boolean {
  return b?.stable === a.stable && b.canary === a.canary;
}

/** Weights are compared as quantities: 90, "90" and "90000m" are equal (v1alpha1 declares a resource.Quantity). */
export function quantity(value: unknown): number | null {
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value !== 'string') return null;
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(value);
  if (!match) return null;
  return match[2] === 'm' ? Number(match[1]) / 1000 : Number(match[1]);
}

/** What a meshed client's proxy does with requests to a root Service, and what a client without one gets. */
import { authorityOf } from './adaptor-rules.ts';
import { profiles } from './controllers/adaptor.ts';
import { serviceNameLabel } from './controllers/endpoints.ts';
import { tagOf } from './faults.ts';
import type { EndpointSlice, Pod, ServiceProfile } from './objects.ts';
import type { Store } from './store.ts';

export type Requests = { namespace: string; service: string; count: number /** Default true. */; meshed?: boolean };

/** Answers counted by the version that gave them; `failed` counts 503s and lost connections. */
export type Answers = { answers: Record<string, number>; failed: number };

/** Sends requests through the ServiceProfile's weights (meshed) or to the root Service's endpoints only. */
export function sendRequests(store: Store, requests: Requests, random: () => number): Answers {
  const { namespace, service, count, meshed = true } = requests;
  const backends = (meshed ? overridesOf(store, namespace, service) : undefined) ?? [{ service, weight: 1 }];
  const pods = new Map(backends.map((backend) => [backend.service, versionsBehind(store, namespace, backend.service)]));
  const total = backends.reduce((sum, { weight }) => sum + weight, 0);
  const answers: Record<string, number> = {};
  let failed = 0;
  for (let i = 0; i < count; i++) {
    let point = random() * total;
    const chosen = backends.find(({ weight }) => {
      point -= weight;
      return point < 0;
    });
    const behind = pods.get(chosen?.service ?? '') ?? [];
    const version = behind[Math.floor(random() * behind.length)];
    if (version === undefined) failed++;
    else answers[version] = (answers[version] ?? 0) + 1;
  }
  return { answers, failed };
}

function overridesOf(store: Store, namespace: string, service: string) {
  const profile = store.get(profiles, namespace, authorityOf(service, namespace))?.object as ServiceProfile | undefined;
  const overrides = profile?.spec?.dstOverrides;
  if (!overrides?.length) return undefined;
  return overrides.map(({ authority, weight }) => ({ service: authority.split('.')[0]!, weight: quantity(weight) }));
}

/** The versions of the pods that a Service leads to, one for each ready endpoint; undefined for a pod that is gone. */
function versionsBehind(store: Store, namespace: string, service: string): (string | undefined)[] {
  return store
    .list('endpointslices.discovery.k8s.io', namespace)
    .map((entry) => entry.object as EndpointSlice)
    .filter((slice) => slice.metadata.labels?.[serviceNameLabel] === service)
    .flatMap((slice) => slice.endpoints ?? [])
    .filter((endpoint) => endpoint.conditions?.ready !== false)
    .map(({ targetRef }) => {
      const pod = targetRef && store.get('pods', namespace, targetRef.name)?.object;
      return pod && versionOf(pod as Pod);
    });
}

function versionOf({ metadata, spec }: Pod): string {
  const labels = metadata.labels ?? {};
  return labels['app.kubernetes.io/version'] ?? labels.version ?? tagOf(spec.containers[0]?.image ?? '');
}

/** A Kubernetes quantity as far as weights use it: `90`, `"90"`, `"500m"`. */
export function quantity(value: number | string): number {
  const [, number, suffix] = /^(\d+(?:\.\d+)?)(m|k)?$/.exec(String(value)) ?? [];
  return Number(number ?? 0) * (suffix === 'm' ? 0.001 : suffix === 'k' ? 1000 : 1);
}

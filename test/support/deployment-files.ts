import { stringify } from 'yaml';

/** A deployment file of one target that brings a version of `web` to a namespace; what a test is about it says itself. */
export type Shop = {
  namespace: string;
  account: string;
  /** Tag of the image, which tells the sandbox what becomes of the pods, and the version of the answers. */
  version: string;
  application?: string;
  replicas?: number;
  steps?: unknown[];
  smi?: Record<string, unknown>;
  /** The root Service in the manifests; null leaves it out. */
  root?: Record<string, unknown> | null;
  /** Further objects, before the Deployment. */
  objects?: Record<string, unknown>[];
  podLabels?: Record<string, string>;
  podAnnotations?: Record<string, string>;
  env?: { name: string; value: string }[];
};

export const weight = (value: number) => ({ setWeight: { weight: value } });
export const pause = (seconds: number) => ({ pause: { duration: seconds, unit: 'seconds' } });
export const approval = (expiresInSeconds?: number) => ({
  pause: {
    untilApproved: true,
    ...(expiresInSeconds === undefined ? {} : { approvalExpiration: { duration: expiresInSeconds, unit: 'seconds' } }),
  },
});

export function service(name: string, spec: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, labels: { team: 'shop' } },
    spec: { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }], ...spec },
  };
}

export function workload(
  shop: Pick<Shop, 'version' | 'replicas' | 'podLabels' | 'podAnnotations' | 'env'>,
): Record<string, unknown> {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
    spec: {
      replicas: shop.replicas ?? 2,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: {
          labels: { app: 'web', ...shop.podLabels },
          ...(shop.podAnnotations ? { annotations: shop.podAnnotations } : {}),
        },
        spec: {
          containers: [
            { name: 'web', image: `registry.example.org/web:${shop.version}`, ...(shop.env ? { env: shop.env } : {}) },
          ],
        },
      },
    },
  };
}

export function manifestsOf(shop: Shop): Record<string, unknown>[] {
  const root = shop.root === undefined ? service('web') : shop.root;
  return [...(shop.objects ?? []), workload(shop), ...(root === null ? [] : [root])];
}

export function manifestText(objects: Record<string, unknown>[]): string {
  return objects.map((object) => stringify(object)).join('---\n');
}

export function shopFile(shop: Shop): Record<string, unknown> {
  return {
    version: 'v1',
    kind: 'kubernetes',
    application: shop.application ?? `shop-${shop.namespace}`,
    targets: { main: { account: shop.account, namespace: shop.namespace, strategy: 'canary' } },
    manifests: [{ inline: manifestText(manifestsOf(shop)) }],
    strategies: { canary: { canary: { steps: shop.steps ?? [weight(10), weight(60)] } } },
    trafficManagement: [{ smi: [{ rootServiceName: 'web', ...shop.smi }] }],
  };
}

export function shopYaml(shop: Shop): string {
  return stringify(shopFile(shop));
}

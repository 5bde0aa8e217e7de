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
  /** Instead of `web` and those of `also`: the root Services of all entries. */
  smiEntries?: string[];
  /** The root Service in the manifests; null leaves it out. */
  root?: Record<string, unknown> | null;
  /** Further Deployments of the same version, by name, each with its root Service. */
  also?: string[];
  /** Further objects, before the Deployments. */
  objects?: Record<string, unknown>[];
  podLabels?: Record<string, string>;
  podAnnotations?: Record<string, string>;
  env?: { name: string; value: string }[];
  /** `deploymentConfig.keepDeploymentObject`. */
  keep?: boolean;
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

/** The root Service of a Deployment of the same name. */
export function rootOf(name: string): Record<string, unknown> {
  return service(name, { selector: { app: name } });
}

export function workload(
  shop: Pick<Shop, 'version' | 'replicas' | 'podLabels' | 'podAnnotations' | 'env'>,
  name = 'web',
): Record<string, unknown> {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas: shop.replicas ?? 2,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: {
          labels: { app: name, ...shop.podLabels },
          ...(shop.podAnnotations ? { annotations: shop.podAnnotations } : {}),
        },
        spec: {
          containers: [
            { name, image: `registry.example.org/${name}:${shop.version}`, ...(shop.env ? { env: shop.env } : {}) },
          ],
        },
      },
    },
  };
}

export function manifestsOf(shop: Shop): Record<string, unknown>[] {
  const root = shop.root === undefined ? service('web') : shop.root;
  const others = (shop.also ?? []).flatMap((name) => [workload(shop, name), rootOf(name)]);
  return [...(shop.objects ?? []), workload(shop), ...(root === null ? [] : [root]), ...others];
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
    trafficManagement: [{ smi: entriesOf(shop) }],
    ...(shop.keep === undefined ? {} : { deploymentConfig: { keepDeploymentObject: shop.keep } }),
  };
}

function entriesOf({ smi, smiEntries, also = [] }: Shop): Record<string, unknown>[] {
  const [first = 'web', ...others] = smiEntries ?? ['web', ...also];
  return [{ rootServiceName: first, ...smi }, ...others.map((name) => ({ rootServiceName: name }))];
}

export function shopYaml(shop: Shop): string {
  return stringify(shopFile(shop));
}

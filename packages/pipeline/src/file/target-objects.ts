import { isRecord } from '../is-record.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { groupOf } from './kubernetes-names.ts';
import type { ManifestEntry, ManifestObject } from './manifests.ts';
import { at, entries, exists, text, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten } from './words.ts';

/** The objects of one target, namespaces applied, in the order of applying; its Deployments apart. `complete`: all could be read. */
export type TargetObjects = { deployments: ManifestObject[]; others: ManifestObject[]; complete: boolean };

/**
 * Gives each target its objects (spec/deployment-file.md §4, §5) and reports what contradicts itself there: the same object
 * twice, a Deployment without a strategy.
 */
export function assembleTargets(root: View, manifests: ManifestEntry[], report: Report): Map<string, TargetObjects> {
  const assembled = new Map<string, TargetObjects>();
  for (const [name, target] of entries(at(root, 'targets'))) {
    const sources = manifests.filter(({ targets }) => targets === undefined || targets.has(name));
    const written = sources.flatMap(({ objects }) => objects);
    const scopes = customScopes(written);
    const placed = written.map((item) => ({
      ...item,
      object: placeObject(item.object, text(at(target, 'namespace')), scopes),
    }));
    refuseDuplicates(placed);
    const deployments = placed.filter(({ object }) => isDeployment(object));
    const others = placed.filter(({ object }) => !isDeployment(object));
    others.sort((a, b) => applyRank(a.object) - applyRank(b.object));
    if (deployments.length > 0 && isRecord(target.value) && !exists(at(target, 'strategy'))) {
      const { path } = at(target, 'strategy');
      report.violation('strategy.missing', path, `target '${shorten(name)}' gets a Deployment and needs a strategy`);
    }
    assembled.set(name, {
      deployments,
      others,
      complete: manifests.length > 0 && sources.every(({ complete }) => complete),
    });
  }
  return assembled;
}

export function isDeployment(object: KubernetesObject): boolean {
  return object.kind === 'Deployment' && groupOf(object.apiVersion) === 'apps';
}

function applyRank({ kind, apiVersion }: KubernetesObject): number {
  if (kind === 'Namespace' && groupOf(apiVersion) === '') return 0;
  return kind === 'CustomResourceDefinition' && groupOf(apiVersion) === 'apiextensions.k8s.io' ? 1 : 2;
}

function refuseDuplicates(objects: ManifestObject[]): void {
  const seen = new Set<string>();
  for (const { object, refuse } of objects) {
    const { kind, metadata } = object;
    const key = JSON.stringify([groupOf(object.apiVersion), kind, metadata.namespace ?? '', metadata.name]);
    if (seen.has(key))
      refuse('name.duplicate', ['metadata', 'name'], 'the same object appears twice in the manifests of one target');
    seen.add(key);
  }
}

/** `group/Kind` of cluster-scoped kinds that are part of Kubernetes or widely installed (1.35). */
const clusterScoped = new Set([
  '/Namespace',
  '/Node',
  '/PersistentVolume',
  '/ComponentStatus',
  'admissionregistration.k8s.io/MutatingAdmissionPolicy',
  'admissionregistration.k8s.io/MutatingAdmissionPolicyBinding',
  'admissionregistration.k8s.io/MutatingWebhookConfiguration',
  'admissionregistration.k8s.io/ValidatingAdmissionPolicy',
  'admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding',
  'admissionregistration.k8s.io/ValidatingWebhookConfiguration',
  'apiextensions.k8s.io/CustomResourceDefinition',
  'apiregistration.k8s.io/APIService',
  'certificates.k8s.io/CertificateSigningRequest',
  'certificates.k8s.io/ClusterTrustBundle',
  'cert-manager.io/ClusterIssuer',
  'flowcontrol.apiserver.k8s.io/FlowSchema',
  'flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration',
  'gateway.networking.k8s.io/GatewayClass',
  'kyverno.io/ClusterPolicy',
  'networking.k8s.io/IngressClass',
  'networking.k8s.io/IPAddress',
  'networking.k8s.io/ServiceCIDR',
  'node.k8s.io/RuntimeClass',
  'policy/PodSecurityPolicy',
  'rbac.authorization.k8s.io/ClusterRole',
  'rbac.authorization.k8s.io/ClusterRoleBinding',
  'resource.k8s.io/DeviceClass',
  'resource.k8s.io/ResourceSlice',
  'scheduling.k8s.io/PriorityClass',
  'storage.k8s.io/CSIDriver',
  'storage.k8s.io/CSINode',
  'storage.k8s.io/StorageClass',
  'storage.k8s.io/VolumeAttachment',
  'storage.k8s.io/VolumeAttributesClass',
]);

/** `group/Kind` -> whether it is cluster-scoped, of the custom kinds that the manifests themselves define. */
function customScopes(objects: ManifestObject[]): Map<string, boolean> {
  const scopes = new Map<string, boolean>();
  for (const { object } of objects) {
    if (object.kind !== 'CustomResourceDefinition') continue;
    const spec: View = at({ value: object, path: [] }, 'spec');
    scopes.set(`${text(at(spec, 'group'))}/${text(at(spec, 'names', 'kind'))}`, at(spec, 'scope').value === 'Cluster');
  }
  return scopes;
}

/** The object with the namespace it goes to: the target's, else its own, else `default`; none where its kind has none. */
function placeObject(
  object: KubernetesObject,
  namespace: string | undefined,
  scopes: Map<string, boolean>,
): KubernetesObject {
  const kind = `${groupOf(object.apiVersion)}/${object.kind}`;
  const { namespace: written, ...metadata } = object.metadata;
  if (scopes.get(kind) ?? clusterScoped.has(kind)) return { ...object, metadata };
  return { ...object, metadata: { ...metadata, namespace: namespace ?? written ?? 'default' } };
}

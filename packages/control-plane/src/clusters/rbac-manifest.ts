import type { RbacQuery } from '@cdaas/contract/clusters.ts';
import { AppError, type Violation } from '@cdaas/contract/errors.ts';
import { shorten } from '@cdaas/pipeline/file/words.ts';
import {
  engineRights,
  lookupRights,
  type ManifestKind,
  manifestKinds,
  manifestRight,
  manifestVerbs,
  type NamedRight,
  type Right,
  resourceWords,
} from './engine-rights.ts';

/** What the RBAC to paste is for. Every name was checked against Kubernetes' rules. */
export type RbacWanted = {
  /** Empty: every namespace of the cluster. */
  namespaces: readonly string[];
  serviceAccount: string;
  serviceAccountNamespace: string;
  /** Kinds that deployment files bring along besides Deployments and Services. */
  kinds: readonly ManifestKind[];
};

/**
 * Reads what was asked for; the names were checked against Kubernetes' rules before (contract/clusters.ts).
 *
 * @throws AppError request.invalid with every kind that is not known
 */
export function rbacWanted(query: RbacQuery): RbacWanted {
  const { namespace: namespaces, serviceAccount, serviceAccountNamespace } = query;
  const unknown: Violation[] = [];
  const kinds = query.kind.flatMap((written) => {
    const kind = kindOf(written);
    if (kind) return [kind];
    const hint = `Known are ${manifestKinds.map((each) => each.kind).join(', ')}; of other kinds write the plural and the group, as in certificates.cert-manager.io.`;
    unknown.push({ code: 'request.invalid', message: `The kind "${shorten(written)}" is not known.`, hint });
    return [];
  });
  const [first, ...rest] = unknown;
  if (first) throw AppError.ofViolations([first, ...rest]);
  return { namespaces, serviceAccount, serviceAccountNamespace, kinds };
}

/** A kind by its name, or a custom one by plural and group. */
function kindOf(written: string): ManifestKind | undefined {
  const known = manifestKinds.find(({ kind }) => kind === written);
  if (known) return known;
  const [, resource, group] =
    /^([a-z][a-z0-9]{0,62})\.([a-z0-9]([-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+)$/.exec(written) ?? [];
  return resource === undefined || group === undefined
    ? undefined
    : { kind: written, group, resource, namespaced: true };
}

/**
 * The least RBAC that a registered credential needs (engine-rights.ts), as YAML to paste into `kubectl apply -f -`: a
 * ServiceAccount, and for each namespace a Role and its binding; without namespaces one ClusterRole.
 */
export function renderRbac(wanted: RbacWanted): string {
  const { namespaces, serviceAccount, serviceAccountNamespace, kinds } = wanted;
  // ClusterRoles of several registrations of one cluster must not overwrite each other.
  const name = `${serviceAccountNamespace}:${serviceAccount}`;
  const namespaced = kinds.filter((kind) => kind.namespaced);
  const rules = [...engineRights, ...namespaced.map(manifestRight)].map((right) => rule(right));
  const outside = lookupRights.map(namedRule);
  const clusterScoped = kinds.filter((kind) => !kind.namespaced).flatMap((kind) => clusterKindRules(kind, namespaces));
  const clusterRules = [...(namespaces.length === 0 ? rules : []), ...outside, ...clusterScoped];
  const documents = [
    ...account(wanted),
    ...namespaces.flatMap((namespace) => [
      role('Role', name, rules, namespace),
      binding('Role', name, wanted, namespace),
    ]),
    role('ClusterRole', name, clusterRules),
    binding('ClusterRole', name, wanted),
  ];
  return `${heading(wanted)}${documents.join('---\n')}`;
}

function heading({ namespaces, serviceAccount, serviceAccountNamespace, kinds }: RbacWanted): string {
  const where = namespaces.length === 0 ? 'every namespace' : `namespace ${namespaces.join(', ')}`;
  const more = kinds.length === 0 ? '' : `, and ${kinds.map(({ kind }) => kind).join(', ')}`;
  const account = `-n ${serviceAccountNamespace} ${serviceAccount}`;
  return `# The least rights that CDaaS needs to deploy to ${where}: Deployments, Services${more}.
# Apply it:              kubectl apply -f rbac.yaml
${namespaces.length === 0 ? '' : `# Before that, where they do not exist: ${namespaces.map((name) => `kubectl create namespace ${name}`).join('; ')}\n`}# Its token, for a year (a cluster may allow less):
#                        kubectl create token ${account} --duration 8760h
# A token that does not end: apply this too, then read it with
#                        kubectl get secret -n ${serviceAccountNamespace} ${serviceAccount}-token -o jsonpath='{.data.token}' | base64 -d
#   apiVersion: v1
#   kind: Secret
#   type: kubernetes.io/service-account-token
#   metadata:
#     name: ${scalar(`${serviceAccount}-token`)}
#     namespace: ${scalar(serviceAccountNamespace)}
#     annotations: { kubernetes.io/service-account.name: ${scalar(serviceAccount)} }
# Other kinds in your deployment files: ask for this document with &kind=ConfigMap&kind=Secret and so on.
# A rule for what the cluster does not serve does no harm.
`;
}

function account({ namespaces, serviceAccount, serviceAccountNamespace }: RbacWanted): string[] {
  const isOther = !namespaces.includes(serviceAccountNamespace) && !isBuiltIn(serviceAccountNamespace);
  const namespace = `apiVersion: v1
kind: Namespace
metadata:
  name: ${scalar(serviceAccountNamespace)}
`;
  const own = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${scalar(serviceAccount)}
  namespace: ${scalar(serviceAccountNamespace)}
`;
  return isOther ? [namespace, own] : [own];
}

/** Namespaces that every cluster has; applying them would only put an annotation on them. */
function isBuiltIn(namespace: string): boolean {
  return namespace === 'default' || namespace.startsWith('kube-');
}

function role(kind: 'Role' | 'ClusterRole', name: string, rules: readonly string[], namespace?: string): string {
  return `apiVersion: rbac.authorization.k8s.io/v1
kind: ${kind}
metadata:
  name: ${scalar(name)}
${namespace === undefined ? '' : `  namespace: ${scalar(namespace)}\n`}rules:
${rules.join('')}`;
}

function binding(kind: 'Role' | 'ClusterRole', name: string, wanted: RbacWanted, namespace?: string): string {
  return `apiVersion: rbac.authorization.k8s.io/v1
kind: ${kind}Binding
metadata:
  name: ${scalar(name)}
${namespace === undefined ? '' : `  namespace: ${scalar(namespace)}\n`}roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ${kind}
  name: ${scalar(name)}
subjects:
  - kind: ServiceAccount
    name: ${scalar(wanted.serviceAccount)}
    namespace: ${scalar(wanted.serviceAccountNamespace)}
`;
}

/** Quoted, because YAML reads names that Kubernetes allows, as `123`, `1e3` or `null`, as something else than text. */
function scalar(text: string): string {
  return JSON.stringify(text);
}

function listOf(texts: readonly string[]): string {
  return `[${texts.map(scalar).join(', ')}]`;
}

function rule({ group, resource, verbs, why, without }: Right, names: readonly string[] = []): string {
  const optional = without === undefined ? '' : `; optional: without it, ${without}`;
  return `  # ${why}${optional}
  - apiGroups: ${listOf([group])}
    resources: ${listOf([resource])}
${names.length === 0 ? '' : `    resourceNames: ${listOf(names)}\n`}    verbs: ${listOf(verbs)}
`;
}

function namedRule(right: NamedRight): string {
  return rule(right, [right.name]);
}

/** Namespaces are objects outside of namespaces themselves: those that may be deployed to are named, where they are limited. */
function clusterKindRules(kind: ManifestKind, namespaces: readonly string[]): string[] {
  const right = manifestRight(kind);
  if (resourceWords(kind) !== 'namespaces' || namespaces.length === 0) return [rule(right)];
  // RBAC cannot limit a create by name: the object has none yet.
  return [
    rule({ ...right, verbs: ['create'] }),
    rule({ ...right, verbs: manifestVerbs.filter((verb) => verb !== 'create') }, namespaces),
  ];
}

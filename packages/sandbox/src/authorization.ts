/**
 * Who asks, and what RBAC lets them do. The cluster's own token may do everything; ServiceAccounts get tokens by the
 * TokenRequest API and rights by Roles, ClusterRoles and their bindings.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { ApiError } from './errors.ts';
import { type Fields, isFields, type KubeObject, timestamp } from './objects.ts';
import type { Store } from './store.ts';

export type User = { name: string; groups: string[] };

/** What is asked for, as Kubernetes' authorizers see it. `namespace` is empty for all of them, `name` for a collection. */
export type Attributes = {
  verb: string;
  group: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
};

const administrator: User = { name: 'sandbox', groups: ['system:masters'] };
const authenticated = 'system:authenticated';

/** Whose token the header carries; undefined for a token that is not known. */
export function userOf(header: string, secret: string, store: Store): User | undefined {
  const token = header.startsWith('Bearer ') ? header.slice('Bearer '.length) : '';
  if (same(token, secret)) return administrator;
  const [account = '', signature = ''] = token.split('.');
  if (!same(signature, sign(account, secret))) return undefined;
  const [namespace = '', name = '', uid = ''] = Buffer.from(account, 'base64url').toString().split('/');
  if (store.get('serviceaccounts', namespace, name)?.object.metadata.uid !== uid) return undefined;
  const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, authenticated];
  return { name: `system:serviceaccount:${namespace}:${name}`, groups };
}

/** `TokenRequest` of authentication.k8s.io/v1, answered with a token that is good as long as the account is there. */
export function requestToken({ metadata }: KubeObject, body: unknown, secret: string): Fields {
  const account = Buffer.from(`${metadata.namespace}/${metadata.name}/${metadata.uid}`).toString('base64url');
  const spec = { expirationSeconds: 3600, ...(isFields(body) && isFields(body.spec) ? body.spec : {}) };
  const expirationTimestamp = timestamp(new Date(Date.now() + Number(spec.expirationSeconds) * 1000));
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name: metadata.name, namespace: metadata.namespace, creationTimestamp: timestamp() },
    spec,
    status: { token: `${account}.${sign(account, secret)}`, expirationTimestamp },
  };
}

function sign(text: string, secret: string): string {
  return createHmac('sha256', secret).update(text).digest('base64url');
}

function same(a: string, b: string): boolean {
  const [first, second] = [Buffer.from(a), Buffer.from(b)];
  return first.length === second.length && timingSafeEqual(first, second);
}

/** @throws ApiError 403 in the words of RBAC */
export function authorize(store: Store, user: User, asked: Attributes): void {
  if (isAllowed(store, user, asked)) return;
  const { verb, group, resource, subresource, namespace, name } = asked;
  const id = group ? `${resource}.${group}` : resource;
  const what = `${subresource ? `${resource}/${subresource}` : resource}" in API group "${group}"`;
  const where = namespace ? `in the namespace "${namespace}"` : 'at the cluster scope';
  const message = `${id}${name ? ` "${name}"` : ''} is forbidden: User "${user.name}" cannot ${verb} resource "${what} ${where}`;
  const details = { ...(name ? { name } : {}), ...(group ? { group } : {}), kind: resource };
  throw new ApiError(403, 'Forbidden', message, details);
}

export function isAllowed(store: Store, user: User, asked: Attributes): boolean {
  if (user.groups.includes('system:masters')) return true;
  return rulesFor(store, user, asked.namespace).some((rule) => isCovered(rule, asked));
}

/** What the bindings of a user allow in a namespace, those of all namespaces included. */
function rulesFor(store: Store, user: User, namespace: string): Rule[] {
  const everywhere = store.list('clusterrolebindings.rbac.authorization.k8s.io');
  const here = namespace ? store.list('rolebindings.rbac.authorization.k8s.io', namespace) : [];
  return [...everywhere, ...here].flatMap(({ object }) => {
    const { subjects, roleRef } = object as Binding;
    const isBound = (subjects ?? []).some((subject) => isSubject(subject, user, object.metadata.namespace));
    return isBound ? rulesOf(store, roleRef, object.metadata.namespace) : [];
  });
}

type Subject = { kind: string; name: string; namespace?: string };
type Binding = KubeObject & { subjects?: Subject[]; roleRef?: { kind: string; name: string } };
type Rule = { verbs?: string[]; apiGroups?: string[]; resources?: string[]; resourceNames?: string[] };

function isSubject(subject: Subject, user: User, bindingNamespace: string | undefined): boolean {
  if (subject.kind === 'User') return subject.name === user.name;
  if (subject.kind === 'Group') return user.groups.includes(subject.name);
  return `system:serviceaccount:${subject.namespace ?? bindingNamespace}:${subject.name}` === user.name;
}

function rulesOf(store: Store, roleRef: Binding['roleRef'], namespace: string | undefined): Rule[] {
  const isCluster = roleRef?.kind === 'ClusterRole';
  const id = isCluster ? 'clusterroles.rbac.authorization.k8s.io' : 'roles.rbac.authorization.k8s.io';
  const role = store.get(id, isCluster ? '' : (namespace ?? ''), roleRef?.name ?? '')?.object;
  return (role?.rules as Rule[] | undefined) ?? [];
}

function isCovered(
  { verbs = [], apiGroups = [], resources = [], resourceNames = [] }: Rule,
  asked: Attributes,
): boolean {
  const { resource, subresource, name } = asked;
  const full = subresource ? `${resource}/${subresource}` : resource;
  const wild = subresource ? `*/${subresource}` : '*';
  return (
    (verbs.includes('*') || verbs.includes(asked.verb)) &&
    (apiGroups.includes('*') || apiGroups.includes(asked.group)) &&
    ['*', wild, full].some((pattern) => resources.includes(pattern)) &&
    (resourceNames.length === 0 || resourceNames.includes(name))
  );
}

/** Answers a `SelfSubjectAccessReview` of authorization.k8s.io/v1. What is no resource is open to every user here. */
export function review(store: Store, user: User, body: unknown): KubeObject {
  const spec = isFields(body) && isFields(body.spec) ? body.spec : {};
  const { verb, group, resource, subresource, namespace, name } = (spec.resourceAttributes ??
    {}) as Partial<Attributes>;
  const asked = { verb, group, resource, subresource, namespace, name };
  const filled = Object.fromEntries(Object.entries(asked).map(([key, value]) => [key, value ?? ''])) as Attributes;
  const allowed = !isFields(spec.resourceAttributes) || isAllowed(store, user, filled);
  const kind = 'SelfSubjectAccessReview';
  const metadata = {} as KubeObject['metadata'];
  return { apiVersion: 'authorization.k8s.io/v1', kind, metadata, spec, status: { allowed } };
}

/**
 * Answers a `SelfSubjectRulesReview` of authorization.k8s.io/v1: all that the user may do in one namespace.
 *
 * @throws ApiError 400 without a namespace
 */
export function reviewRules(store: Store, user: User, body: unknown): KubeObject {
  const spec = isFields(body) && isFields(body.spec) ? body.spec : {};
  const { namespace } = spec;
  if (typeof namespace !== 'string' || namespace === '') {
    throw new ApiError(400, 'BadRequest', 'no namespace on request');
  }
  const all: Rule = { verbs: ['*'], apiGroups: ['*'], resources: ['*'] };
  const rules = user.groups.includes('system:masters') ? [all] : rulesFor(store, user, namespace);
  const reviews: Rule = {
    verbs: ['create'],
    apiGroups: ['authorization.k8s.io'],
    resources: ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'],
  };
  const resourceRules = [reviews, ...rules];
  const nonResourceRules = [{ verbs: ['get'], nonResourceURLs: ['*'] }];
  const kind = 'SelfSubjectRulesReview';
  const metadata = {} as KubeObject['metadata'];
  const status = { resourceRules, nonResourceRules, incomplete: false };
  return { apiVersion: 'authorization.k8s.io/v1', kind, metadata, spec: {}, status };
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RbacQuery } from '@cdaas/contract/clusters.ts';
import { AppError } from '@cdaas/contract/errors.ts';
import { parseAllDocuments } from 'yaml';
import { engineRights } from './engine-rights.ts';
import { rbacWanted, renderRbac } from './rbac-manifest.ts';

type Rule = { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] };
type Document = {
  kind: string;
  metadata: { name: string; namespace?: string };
  rules?: Rule[];
  roleRef?: { kind: string; name: string };
  subjects?: { kind: string; name: string; namespace: string }[];
};

function render(query: Record<string, unknown> = {}): Document[] {
  const text = renderRbac(rbacWanted(RbacQuery.parse(query)));
  return parseAllDocuments(text).map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as Document;
  });
}

const titles = (documents: Document[]) =>
  documents.map(({ kind, metadata: { name, namespace } }) => [kind, namespace, name].filter(Boolean).join(' '));

test('for namespaces there is a Role and its binding in each, and a ClusterRole only for looking things up', () => {
  const documents = render({ namespace: ['shop', 'shop', 'pay'] });
  assert.deepEqual(titles(documents), [
    'Namespace cdaas',
    'ServiceAccount cdaas cdaas',
    'Role shop cdaas:cdaas',
    'RoleBinding shop cdaas:cdaas',
    'Role pay cdaas:cdaas',
    'RoleBinding pay cdaas:cdaas',
    'ClusterRole cdaas:cdaas',
    'ClusterRoleBinding cdaas:cdaas',
  ]);
  const role = documents.find(({ kind }) => kind === 'Role');
  assert.equal(role?.rules?.length, engineRights.length);
  const clusterRole = documents.find(({ kind }) => kind === 'ClusterRole');
  for (const rule of clusterRole?.rules ?? []) {
    assert.deepEqual(rule.verbs, ['get']);
    assert.equal(rule.resourceNames?.length, 1, 'one object by name');
  }
  for (const { roleRef, subjects } of documents.filter(({ kind }) => kind.endsWith('Binding'))) {
    assert.equal(roleRef?.name, 'cdaas:cdaas');
    assert.deepEqual(subjects, [{ kind: 'ServiceAccount', name: 'cdaas', namespace: 'cdaas' }]);
  }
});

test('without namespaces one ClusterRole gives it everywhere', () => {
  const documents = render({ serviceAccount: 'deployer', serviceAccountNamespace: 'default' });
  assert.deepEqual(titles(documents), [
    'ServiceAccount default deployer',
    'ClusterRole default:deployer',
    'ClusterRoleBinding default:deployer',
  ]);
});

test('no rule has a wildcard, nor a right to Secrets that nobody asked for', () => {
  for (const query of [{}, { namespace: 'shop' }]) {
    for (const { apiGroups, resources, verbs } of render(query).flatMap(({ rules = [] }) => rules)) {
      assert.ok(![...apiGroups, ...resources, ...verbs].includes('*'));
      assert.ok(!resources.includes('secrets'));
    }
  }
});

test('kinds that files bring along are added, and only what is done to them', () => {
  const documents = render({ namespace: 'shop', kind: ['Secret', 'certificates.cert-manager.io', 'Namespace'] });
  const added = (kind: string) => documents.find((document) => document.kind === kind)?.rules ?? [];
  const verbs = ['get', 'create', 'update', 'patch'];
  assert.deepEqual(added('Role').slice(-2), [
    { apiGroups: [''], resources: ['secrets'], verbs },
    { apiGroups: ['cert-manager.io'], resources: ['certificates'], verbs },
  ]);
  assert.deepEqual(added('ClusterRole').slice(-2), [
    { apiGroups: [''], resources: ['namespaces'], verbs: ['create'] },
    { apiGroups: [''], resources: ['namespaces'], resourceNames: ['shop'], verbs: ['get', 'update', 'patch'] },
  ]);
});

test('every kind that is not known is told, with what is', () => {
  assert.throws(
    () => render({ kind: ['configmap', 'ConfigMap', 'x.y\n- z'] }),
    (error) => {
      assert.ok(error instanceof AppError);
      assert.deepEqual(
        error.violations.map(({ message }) => message.slice(0, 25)),
        ['The kind "configmap" is n', 'The kind "x.y?- z" is not'],
      );
      assert.match(error.violations[0].hint ?? '', /ConfigMap, .*certificates\.cert-manager\.io/);
      return true;
    },
  );
});

test('names that YAML would read as something else than text come back as they were written', () => {
  for (const name of ['123', '1e3', '007', 'null', 'true', 'no', '0x1f', '1-2', 'y']) {
    const documents = render({
      namespace: name,
      serviceAccount: name,
      serviceAccountNamespace: name,
      kind: 'Namespace',
    });
    assert.deepEqual(
      titles(documents),
      [
        `ServiceAccount ${name} ${name}`,
        `Role ${name} ${name}:${name}`,
        `RoleBinding ${name} ${name}:${name}`,
        `ClusterRole ${name}:${name}`,
        `ClusterRoleBinding ${name}:${name}`,
      ],
      name,
    );
    for (const { metadata, roleRef, subjects = [], rules = [] } of documents) {
      const named = [metadata.namespace, roleRef?.name, ...subjects.flatMap((each) => [each.name, each.namespace])];
      const listed = rules.flatMap(({ resourceNames = [], verbs, resources }) => [
        ...resourceNames,
        ...verbs,
        ...resources,
      ]);
      for (const value of [...named.filter((each) => each !== undefined), ...listed])
        assert.equal(typeof value, 'string');
    }
    const namespaces = documents
      .flatMap(({ rules = [] }) => rules)
      .find(({ verbs }) => verbs.includes('update') && !verbs.includes('create'));
    assert.deepEqual(namespaces?.resourceNames, [name]);
  }
});

test('names that are none never get into the YAML', () => {
  for (const query of [
    { namespace: 'a\n---' },
    { namespace: ['ok', 'Not'] },
    { serviceAccount: 'a: b' },
    { serviceAccountNamespace: '-' },
    { namespaces: 'shop' },
    { namespace: Array.from({ length: 101 }, (_, index) => `n${index}`) },
  ]) {
    assert.ok(!RbacQuery.safeParse(query).success, JSON.stringify(query));
  }
});

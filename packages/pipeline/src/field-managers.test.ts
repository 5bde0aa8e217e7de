import assert from 'node:assert/strict';
import { test } from 'node:test';
import { managerOf, writerOfHeld, writerWords } from './field-managers.ts';
import type { KubernetesObject } from './kubernetes.ts';

type Entry = { manager?: string; operation?: string; time?: string; subresource?: string; fields?: string[] };

function object(kind: string, entries: Entry[]): KubernetesObject {
  const managedFields = entries.map(({ fields = [], ...entry }) => ({
    ...entry,
    fieldsV1: { 'f:spec': Object.fromEntries(fields.map((field) => [`f:${field}`, {}])) },
  }));
  return { apiVersion: 'v1', kind, metadata: { name: 'web', managedFields } };
}

const cdaas = { manager: 'cdaas', operation: 'Update', time: '2026-01-01T00:00:09Z', fields: ['selector'] };
const argo = {
  manager: 'argocd-controller',
  operation: 'Apply',
  time: '2026-01-01T00:00:05Z',
  fields: ['selector', 'ports'],
};
const kubectl = { manager: 'kubectl-edit', operation: 'Update', time: '2026-01-01T00:00:07Z', fields: ['ports'] };

test('who changed what a run holds is whoever beside us owns that field', () => {
  const writer = writerOfHeld(object('Service', [kubectl, argo, cdaas]));
  assert.equal(writerWords(writer), 'argocd-controller (Apply at 2026-01-01T00:00:05Z)');
});

test('where nobody owns it any more it is whoever wrote the object last', () => {
  const one = { ...argo, fields: ['ports'] };
  assert.equal(writerOfHeld(object('Service', [one, kubectl, cdaas]))?.manager, 'kubectl-edit');
});

test('of a ReplicaSet its controller’s status says nothing', () => {
  const controller = {
    manager: 'kube-controller-manager',
    operation: 'Update',
    subresource: 'status',
    fields: ['replicas'],
  };
  const scaler = { manager: 'kubectl', operation: 'Update', subresource: 'scale', fields: ['replicas'] };
  assert.equal(writerWords(writerOfHeld(object('ReplicaSet', [controller, scaler]))), 'kubectl (Update)');
});

test('nobody is named where the cluster names nobody', () => {
  assert.equal(writerWords(writerOfHeld(object('Service', [cdaas]))), 'somebody');
  assert.equal(writerWords(writerOfHeld(object('Service', [{ operation: 'Update' }]))), 'somebody');
  assert.equal(writerWords(undefined), 'somebody');
});

test('who wrote a Deployment last is named, not a controller of Kubernetes; of one second whoever applied', () => {
  const at = '2026-01-01T00:00:05Z';
  const controller = { manager: 'kube-controller-manager', operation: 'Update', time: '2026-01-01T00:00:09Z' };
  const update = { ...kubectl, time: at };
  for (const entries of [
    [update, argo, controller],
    [controller, argo, update],
  ]) {
    assert.equal(managerOf(object('Deployment', entries)), 'argocd-controller');
  }
  assert.equal(managerOf(object('Deployment', [argo, kubectl])), 'kubectl-edit');
  assert.equal(managerOf(object('Deployment', [])), 'unknown');
});

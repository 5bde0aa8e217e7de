import assert from 'node:assert/strict';
import { service, workload } from '../../sandbox/client.ts';
import { type Body, type Cases, eventually, merge } from '../place.ts';
import { root } from './apply.ts';
import { readySet } from './deletion.ts';
import { backends, replicaSet, split } from './writes.ts';

/** `metadata.managedFields`: who changed what, by which the engine names who fights it. */
export const managerCases: Cases = {
  'a merge patch is recorded under its field manager with the fields that it changed': async (at) => {
    await at.done('POST', `${at.core}/services?fieldManager=maker`, service('web', { app: 'web' }));
    const pin = {
      metadata: { labels: { 'cdaas/deployment': 'd1' }, annotations: { 'cdaas/fence': 'd1.1' } },
      spec: { selector: { hash: 'old' } },
    };
    const { body } = await at.mergePatch(`${at.core}/services/web`, pin, 'cdaas');
    const own = managedBy(body, 'cdaas');
    assert.deepEqual([own?.operation, own?.apiVersion, own?.fieldsType], ['Update', 'v1', 'FieldsV1']);
    assert.match(own?.time ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.deepEqual(own?.fieldsV1, {
      'f:metadata': {
        'f:annotations': { '.': {}, 'f:cdaas/fence': {} },
        'f:labels': { '.': {}, 'f:cdaas/deployment': {} },
      },
      'f:spec': { 'f:selector': {} },
    });
    assert.equal(
      JSON.stringify(managedBy(body, 'maker')).includes('f:selector'),
      false,
      'what it changed is its own now',
    );
  },

  'whoever changes a selector last is found by who owns f:selector': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await at.mergePatch(`${at.core}/services/web`, { spec: { selector: { hash: 'old' } } }, 'cdaas');
    await at.mergePatch(`${at.core}/services/web`, { spec: { selector: { hash: 'x' } } }, 'kubectl-edit');
    const edited = await at.done('GET', `${at.core}/services/web`);
    assert.deepEqual(ownersOf(edited, 'f:selector'), ['kubectl-edit']);
    const { body } = await at.applyAs('argocd', `${at.core}/services/web`, root({ app: 'web' }), true);
    assert.deepEqual(ownersOf(body, 'f:selector'), ['argocd']);
    assert.equal(managedBy(body, 'argocd')?.operation, 'Apply');
  },

  'without a field manager the program of the user agent is recorded': async (at) => {
    const agent = { 'user-agent': 'some-tool/v1 (linux)', ...merge };
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const body = await at.done('PATCH', `${at.core}/services/web`, { metadata: { labels: { a: 'b' } } }, agent);
    assert.deepEqual(managedBy(body, 'some-tool')?.fieldsV1, { 'f:metadata': { 'f:labels': { '.': {}, 'f:a': {} } } });
  },

  'the backends of a TrafficSplit have one owner': async (at) => {
    await split(at);
    const { body } = await at.mergePatch(`${at.splits}/web`, { spec: { backends: backends(90, 10) } }, 'cdaas');
    assert.deepEqual(managedBy(body, 'cdaas')?.fieldsV1, { 'f:spec': { 'f:backends': {} } });
    const { body: edited } = await at.mergePatch(
      `${at.splits}/web`,
      { spec: { backends: backends(0, 100) } },
      'hacker',
    );
    assert.deepEqual(ownersOf(edited, 'f:backends'), ['hacker']);
  },

  'a field that is taken away has no owner any more': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    await at.mergePatch(`${at.core}/services/web`, { metadata: { labels: { 'cdaas/deployment': 'd1' } } }, 'cdaas');
    const { body } = await at.mergePatch(
      `${at.core}/services/web`,
      { metadata: { labels: { 'cdaas/deployment': null } } },
      'cdaas',
    );
    assert.equal(managedBy(body, 'cdaas'), undefined);
  },

  'a change by /scale is recorded under that subresource': async (at) => {
    await at.done('POST', `${at.apps}/replicasets`, replicaSet(0));
    const scale = `${at.apps}/replicasets/web/scale`;
    const answered = await at.mergePatch(scale, { spec: { replicas: 1 } }, 'autoscaler');
    assert.deepEqual([answered.code, answered.body.kind, answered.body.apiVersion], [200, 'Scale', 'autoscaling/v1']);
    const body = await at.done('GET', `${at.apps}/replicasets/web`);
    const own = managedBy(body, 'autoscaler');
    assert.deepEqual([own?.subresource, own?.fieldsV1], ['scale', { 'f:spec': { 'f:replicas': {} } }]);
    assert.deepEqual([body.spec.replicas, body.metadata.generation], [1, 2]);
  },

  'the controller that scales an adopted ReplicaSet down is the manager of its replicas': async (at) => {
    await readySet(at, 'deployments', 1);
    const labels = { app: 'web', hash: 'x' };
    const stranger = workload('stranger', 1, labels, 'example/web:v2');
    await at.done('POST', `${at.apps}/replicasets`, { ...stranger, metadata: { name: 'stranger', labels } });
    const set = await eventually(
      at,
      'it is at 0',
      `${at.apps}/replicasets/stranger`,
      ({ spec }) => spec.replicas === 0,
    );
    const owner = set.metadata.managedFields?.find(({ fieldsV1 }) => fieldsV1['f:spec']?.['f:replicas']);
    assert.equal(owner?.manager, 'kube-controller-manager');
  },
};

function managedBy({ metadata }: Body, manager: string) {
  return metadata.managedFields?.find((entry) => entry.manager === manager);
}

function ownersOf({ metadata }: Body, field: string): string[] {
  return (metadata.managedFields ?? [])
    .filter(({ fieldsV1 }) => JSON.stringify(fieldsV1).includes(`"${field}"`))
    .map(({ manager }) => manager);
}

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { applied, managersAfterUpdate } from './apply.ts';
import { ApiError } from './errors.ts';
import type { KubeObject } from './objects.ts';

const metadata = { name: 'web', namespace: 'shop', uid: 'u', resourceVersion: '1', creationTimestamp: 't' };

function service(spec: object, more: object = {}): KubeObject {
  return { apiVersion: 'v1', kind: 'Service', metadata: { ...metadata, ...more }, spec };
}

const git = { manager: 'git' };
const cdaas = { manager: 'cdaas' };
const wanted = service({ selector: { app: 'web' }, ports: [{ port: 80 }] }, { labels: { team: 'a' } });

/** `object` as it is after `manager` changed it to `next` by a PUT or a patch. */
function updated(object: KubeObject, next: KubeObject, manager: string): KubeObject {
  const managedFields = managersAfterUpdate(object, next, { manager });
  return { ...next, metadata: { ...next.metadata, managedFields } };
}

function pinned(): KubeObject {
  const live = applied(undefined, wanted, git, false);
  return updated(live, { ...live, spec: { ...(live.spec as object), selector: { app: 'web', hash: 'x' } } }, 'cdaas');
}

function owners(object: KubeObject): Record<string, unknown> {
  const fields = object.metadata.managedFields ?? [];
  return Object.fromEntries(fields.map((field) => [`${field.manager} ${field.operation}`, field.fieldsV1]));
}

describe('Server-side apply', () => {
  test('records what the manager named, keyed lists by their keys and the selector as a whole', () => {
    assert.deepEqual(owners(applied(undefined, wanted, git, false)), {
      'git Apply': {
        'f:metadata': { 'f:labels': { 'f:team': {} } },
        'f:spec': {
          'f:selector': {},
          'f:ports': { 'k:{"port":80,"protocol":"TCP"}': { '.': {}, 'f:port': {} } },
        },
      },
    });
  });

  test('repeated without a change changes nothing, not even its time', () => {
    const live = applied(undefined, wanted, git, false);
    assert.deepEqual(applied(live, wanted, git, false), live);
  });

  test('that would take back a selector which another manager extended is a conflict', () => {
    assert.throws(
      () => applied(pinned(), wanted, git, false),
      (error: unknown) =>
        error instanceof ApiError &&
        error.status.code === 409 &&
        error.status.details?.causes?.[0]?.field === '.spec.selector' &&
        error.message.includes('conflict with "cdaas" using v1'),
    );
  });

  test('by force replaces the whole selector and takes it over, leaving the labels of others', () => {
    const live = pinned();
    const labelled = updated(
      live,
      { ...live, metadata: { ...live.metadata, labels: { team: 'a', 'cdaas/deployment': 'd' } } },
      'cdaas',
    );
    const result = applied(labelled, wanted, git, true);
    assert.deepEqual((result.spec as { selector: unknown }).selector, { app: 'web' });
    assert.deepEqual(result.metadata.labels, { team: 'a', 'cdaas/deployment': 'd' });
    assert.deepEqual(owners(result)['cdaas Update'], { 'f:metadata': { 'f:labels': { 'f:cdaas/deployment': {} } } });
  });

  test('removes a field that its manager named before and names no longer', () => {
    const live = applied(undefined, wanted, git, false);
    const result = applied(live, service({ selector: { app: 'web' }, ports: [{ port: 81 }] }), git, false);
    assert.equal(result.metadata.labels, undefined);
    assert.deepEqual((result.spec as { ports: unknown }).ports, [{ port: 81 }]);
  });

  test('keeps a dropped field that another manager owns too', () => {
    const both = applied(applied(undefined, wanted, git, false), wanted, cdaas, false);
    const result = applied(both, service({ selector: { app: 'web' }, ports: [{ port: 80 }] }), git, false);
    assert.deepEqual(result.metadata.labels, { team: 'a' });
  });

  test('leaves fields alone that nobody applied', () => {
    const live = applied(undefined, wanted, git, false);
    const grown = { ...live, spec: { ...(live.spec as object), clusterIP: '10.96.0.1' } };
    assert.equal((applied(grown, wanted, git, false).spec as { clusterIP: string }).clusterIP, '10.96.0.1');
  });
});

describe('An update', () => {
  test('moves what it changes to its manager and nothing else', () => {
    const live = applied(undefined, wanted, git, false);
    const next = updated(live, { ...live, spec: { ...(live.spec as object), type: 'NodePort' } }, 'kubectl');
    assert.deepEqual(owners(next), { ...owners(live), 'kubectl Update': { 'f:spec': { 'f:type': {} } } });
  });

  test('that removes a field leaves no owner of it', () => {
    const live = applied(undefined, wanted, git, false);
    const { labels: _, ...bare } = live.metadata;
    const next = updated(live, { ...live, metadata: bare }, 'kubectl');
    assert.equal((owners(next)['git Apply'] as Record<string, unknown>)['f:metadata'], undefined);
  });
});

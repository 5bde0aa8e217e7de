import assert from 'node:assert/strict';
import { podTemplate } from '../../sandbox/client.ts';
import { apply, type Cases } from '../place.ts';

/** Server-side apply, by the engine (P0) and by the tools of others (GitOps). */
export const applyCases: Cases = {
  'an apply creates what is missing and answers 201, then changes it and answers 200': async (at) => {
    const first = await at.applyAs('cdaas', `${at.core}/configmaps/settings`, settings({ color: 'blue' }));
    assert.equal(first.code, 201);
    assert.match(first.body.metadata.uid, /-/);
    const second = await at.applyAs('cdaas', `${at.core}/configmaps/settings`, settings({ color: 'green' }));
    assert.deepEqual([second.code, second.body.data], [200, { color: 'green' }]);
  },

  'an apply with a stale resourceVersion answers 409, even with force': async (at) => {
    const path = `${at.core}/services/web`;
    const stale = (await at.applyAs('cdaas', path, root({ app: 'web' }))).body.metadata.resourceVersion;
    const { body } = await at.mergePatch(path, { metadata: { annotations: { by: 'others' } } }, 'others');
    const object = { ...root({ app: 'b' }), metadata: { name: 'web', resourceVersion: stale } };
    const refused = await at.applyAs('cdaas', path, object, true);
    assert.deepEqual([refused.code, refused.body.reason], [409, 'Conflict']);
    assert.match(
      refused.body.message,
      /^Operation cannot be fulfilled on services "web": the object has been modified/,
    );
    assert.deepEqual(await at.done('GET', path), body);
    const { resourceVersion } = body.metadata;
    const current = { ...root({ app: 'b' }), metadata: { name: 'web', resourceVersion } };
    assert.equal((await at.applyAs('cdaas', path, current, true)).code, 200);
  },

  'an apply that carries a resourceVersion still creates what is gone; one that carries a uid answers 409': async (
    at,
  ) => {
    const { body: first } = await at.applyAs('cdaas', `${at.core}/configmaps/settings`, settings({ a: '1' }));
    await at.done('DELETE', `${at.core}/configmaps/settings`);
    const { resourceVersion, uid } = first.metadata;
    const versioned = { ...settings({ a: '1' }), metadata: { name: 'settings', resourceVersion } };
    const identified = { ...settings({ a: '1' }), metadata: { name: 'settings', resourceVersion, uid } };
    const refused = await at.applyAs('cdaas', `${at.core}/configmaps/settings`, identified, true);
    assert.deepEqual([refused.code, refused.body.reason], [409, 'Conflict']);
    const { code, body } = await at.applyAs('cdaas', `${at.core}/configmaps/settings`, versioned, true);
    assert.equal(code, 201);
    assert.notEqual(body.metadata.uid, uid);
    const other = await at.applyAs('cdaas', `${at.core}/configmaps/settings`, identified, true);
    assert.deepEqual([other.code, other.body.reason], [409, 'Conflict'], 'nor does it change another of that name');
  },

  'an apply without force is refused over a pinned selector, naming the manager of the pin': async (at) => {
    const path = `${at.core}/services/web`;
    await at.applyAs('argocd', path, root({ app: 'web' }));
    await at.mergePatch(path, { spec: { selector: { hash: 'old' } } });
    const { code, body } = await at.applyAs('argocd', path, root({ app: 'web' }));
    assert.deepEqual([code, body.reason], [409, 'Conflict']);
    assert.equal(body.message, 'Apply failed with 1 conflict: conflict with "cdaas" using v1: .spec.selector');
    assert.deepEqual(body.details.causes, [
      { reason: 'FieldManagerConflict', message: 'conflict with "cdaas" using v1', field: '.spec.selector' },
    ]);
    assert.deepEqual((await at.done('GET', path)).spec.selector, { app: 'web', hash: 'old' });
  },

  'a forced apply replaces a selector as a whole; labels of others stay': async (at) => {
    const path = `${at.core}/services/web`;
    await at.applyAs('argocd', path, root({ app: 'web' }));
    const pin = { metadata: { labels: { 'cdaas/deployment': 'd1' } }, spec: { selector: { hash: 'old' } } };
    await at.mergePatch(path, pin);
    const { code, body } = await at.applyAs('argocd', path, root({ app: 'web' }), true);
    assert.equal(code, 200);
    assert.deepEqual(body.spec.selector, { app: 'web' });
    assert.deepEqual(body.metadata.labels, { team: 'shop', 'cdaas/deployment': 'd1' });
    const pinners = (body.metadata.managedFields ?? []).filter(({ manager }) => manager === 'cdaas');
    assert.equal(JSON.stringify(pinners).includes('f:selector'), false, 'the pin is no longer ours');
  },

  'a forced apply of the same manifest over a pin that it did not name before takes the pin away too': async (at) => {
    const path = `${at.core}/services/web`;
    await at.done('POST', `${at.core}/services`, root({ app: 'web' }));
    await at.mergePatch(path, { spec: { selector: { hash: 'old' } } });
    const { body } = await at.applyAs('flux', path, root({ app: 'web' }), true);
    assert.deepEqual(body.spec.selector, { app: 'web' });
  },

  'an apply takes away the fields that it named before and names no longer': async (at) => {
    const path = `${at.core}/configmaps/settings`;
    await at.applyAs('cdaas', path, settings({ a: '1', b: '2' }));
    await at.mergePatch(path, { data: { c: '3' } }, 'others');
    const { body } = await at.applyAs('cdaas', path, settings({ a: '1' }));
    assert.deepEqual(body.data, { a: '1', c: '3' });
  },

  'an apply leaves a field that its own manager set by a POST and that it names no longer': async (at) => {
    await at.done('POST', `${at.core}/configmaps?fieldManager=cdaas`, settings({ a: '1', b: '2' }));
    const { body } = await at.applyAs('cdaas', `${at.core}/configmaps/settings`, settings({ a: '1' }), true);
    assert.deepEqual(body.data, { a: '1', b: '2' }, 'what a POST sets is managed apart from what an apply sets');
  },

  'an apply takes such a field away once its entry among the managers was made one of an apply': async (at) => {
    const path = `${at.core}/configmaps/settings`;
    const made = await at.done(
      'POST',
      `${at.core}/configmaps?fieldManager=cdaas`,
      settings({ a: '1', b: '2', c: '3' }),
    );
    const { uid, resourceVersion, managedFields = [] } = made.metadata;
    const handed = managedFields.map((entry) => ({ ...entry, operation: 'Apply' }));
    const { code, body } = await at.mergePatch(path, { metadata: { uid, resourceVersion, managedFields: handed } });
    assert.equal(code, 200, body.message);
    assert.notEqual(body.metadata.resourceVersion, resourceVersion);
    assert.deepEqual(
      body.metadata.managedFields?.map(({ manager, operation }) => [manager, operation]),
      [['cdaas', 'Apply']],
    );
    const late = await at.mergePatch(path, { metadata: { uid, resourceVersion, managedFields: handed } });
    assert.equal(late.code, 409);
    await at.mergePatch(path, { data: { c: '4' } }, 'others');
    const after = await at.applyAs('cdaas', path, settings({ a: '1' }), true);
    assert.deepEqual(after.body.data, { a: '1', c: '4' });
  },

  'an apply of a Service that was created and handed over so is answered as before': async (at) => {
    const path = `${at.core}/services/web`;
    const made = await at.done('POST', `${at.core}/services?fieldManager=cdaas`, root({ app: 'web' }));
    const { uid, resourceVersion, managedFields = [] } = made.metadata;
    const handed = managedFields.map((entry) => ({ ...entry, operation: 'Apply' }));
    await at.mergePatch(path, { metadata: { uid, resourceVersion, managedFields: handed } });
    const { code, body } = await at.applyAs('cdaas', path, root({ app: 'web' }), true);
    assert.equal(code, 200, body.message);
    assert.deepEqual(body.spec, made.spec);
  },

  'an apply of a field that the schema does not have is refused with 500': async (at) => {
    const spec = { service: 'web', backends: [], surprise: 1 };
    const split = { apiVersion: 'split.smi-spec.io/v1alpha2', kind: 'TrafficSplit', metadata: { name: 'web' }, spec };
    const { code, body } = await at.applyAs('cdaas', `${at.splits}/web`, split, true);
    assert.equal(code, 500);
    assert.match(body.message, /\.spec\.surprise: field not declared in schema$/);
    const again = await at.applyAs('cdaas', `${at.core}/services/web`, { ...root({ app: 'web' }), surprise: 1 }, true);
    assert.equal(again.code, 500);
  },

  'an apply that changes nothing keeps the resourceVersion': async (at) => {
    const path = `${at.core}/services/web`;
    const first = await at.applyAs('cdaas', path, root({ app: 'web' }));
    const { body } = await at.applyAs('cdaas', path, root({ app: 'web' }));
    assert.equal(body.metadata.resourceVersion, first.body.metadata.resourceVersion);
  },

  'an apply of a Deployment merges containers by name': async (at) => {
    const path = `${at.apps}/deployments/web`;
    const template = podTemplate({ app: 'web' });
    const spec = { replicas: 0, selector: { matchLabels: { app: 'web' } }, template };
    const object = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web' }, spec };
    assert.equal((await at.applyAs('cdaas', path, object)).code, 201);
    const containers = [{ name: 'web', image: 'example/web:v2' }];
    const next = { ...object, spec: { ...spec, template: { ...template, spec: { containers } } } };
    const { code, body } = await at.applyAs('cdaas', path, next);
    assert.equal(code, 200);
    const stored = body.spec.template as unknown as { spec: { containers: { image: string; ports?: object[] }[] } };
    assert.equal(stored.spec.containers[0]?.image, 'example/web:v2');
    assert.equal(stored.spec.containers[0]?.ports, undefined, 'ports that are named no longer are gone');
  },

  'an apply of a TrafficSplit replaces its backends as a whole': async (at) => {
    const path = `${at.splits}/web`;
    const object = (weight: number) => ({
      apiVersion: 'split.smi-spec.io/v1alpha2',
      kind: 'TrafficSplit',
      metadata: { name: 'web' },
      spec: { service: 'web', backends: [{ service: 'web', weight }] },
    });
    assert.equal((await at.applyAs('argocd', path, object(1))).code, 201);
    await at.mergePatch(path, { spec: { backends: [{ service: 'other', weight: 1 }] } });
    const refused = await at.applyAs('argocd', path, object(1));
    assert.deepEqual([refused.code, refused.body.details.causes[0]?.field], [409, '.spec.backends']);
    const { body } = await at.applyAs('argocd', path, object(1), true);
    assert.deepEqual(body.spec.backends, [{ service: 'web', weight: 1 }]);
  },

  'an apply without a field manager answers 422, one with managedFields 400': async (at) => {
    const path = `${at.core}/configmaps/settings`;
    const nobody = await at.call('PATCH', path, settings({}), apply);
    assert.deepEqual([nobody.code, nobody.body.reason], [422, 'Invalid']);
    assert.match(nobody.body.message, /fieldManager: Required value: is required for apply patch$/);
    const { body } = await at.applyAs('cdaas', path, settings({ a: '1' }));
    const managed = await at.applyAs('cdaas', path, body);
    assert.equal(managed.code, 400);
    assert.match(managed.body.message, /managedFields must be nil/);
  },

  'an apply whose name is not that of its path answers 400': async (at) => {
    const { code, body } = await at.applyAs('cdaas', `${at.core}/configmaps/other`, settings({}));
    assert.deepEqual([code, body.reason], [400, 'BadRequest']);
  },

  'an apply with a field of the wrong type is refused and stores nothing': async (at) => {
    const bad = { ...settings({}), data: 'text' };
    const spec = { service: 'web', backends: [{ service: 'web', weight: '90' }] };
    const split = { apiVersion: 'split.smi-spec.io/v1alpha2', kind: 'TrafficSplit', metadata: { name: 'web' }, spec };
    for (const [path, object] of [
      [`${at.core}/configmaps/settings`, bad],
      [`${at.splits}/web`, split],
    ] as const) {
      const { code, body } = await at.applyAs('cdaas', path, object, true);
      assert.equal(code, 500, 'so that a 500 must not be sent again blindly');
      assert.equal(body.reason, undefined);
      assert.match(body.message, /^failed to create typed patch object \(/);
      assert.equal((await at.call('GET', path)).code, 404);
    }
  },

  'a ServiceProfile and a Namespace can be applied': async (at) => {
    const name = `web.${at.namespace}.svc.cluster.local`;
    const profile = `/apis/linkerd.io/v1alpha2/namespaces/${at.namespace}/serviceprofiles/${name}`;
    const dstOverrides = [{ authority: `web.${at.namespace}.svc.cluster.local`, weight: '100' }];
    const object = {
      apiVersion: 'linkerd.io/v1alpha2',
      kind: 'ServiceProfile',
      metadata: { name },
      spec: { dstOverrides },
    };
    const stored = await at.applyAs('smi-adaptor', profile, object);
    assert.deepEqual([stored.code, stored.body.spec.dstOverrides], [201, dstOverrides]);
    const space = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: at.namespace, labels: { team: 'a' } } };
    const { body } = await at.applyAs('cdaas', `/api/v1/namespaces/${at.namespace}`, space);
    assert.equal(body.metadata.labels?.team, 'a');
    assert.equal(body.metadata.labels?.['kubernetes.io/metadata.name'], at.namespace);
  },

  'a server-side apply leaves annotations that kubectl wrote, and a client-side one the pin': async (at) => {
    const path = `${at.core}/services/web`;
    await at.done('POST', `${at.core}/services`, {
      ...root({ app: 'web' }),
      metadata: { name: 'web', annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}' } },
    });
    await at.mergePatch(path, { spec: { selector: { hash: 'old' } } });
    // What kubectl apply sends for a manifest that did not change since it applied it.
    const strategic = { 'content-type': 'application/strategic-merge-patch+json' };
    const kept = await at.done('PATCH', path, { metadata: { annotations: { note: 'x' } } }, strategic);
    assert.deepEqual(kept.spec.selector, { app: 'web', hash: 'old' });
    const { body } = await at.applyAs('flux', path, root({ app: 'web' }), true);
    assert.ok(body.metadata.annotations?.['kubectl.kubernetes.io/last-applied-configuration']);
  },
};

function settings(data: Record<string, string>) {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data };
}

export function root(selector: Record<string, string>) {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', labels: { team: 'shop' } },
    spec: { selector, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  };
}

import assert from 'node:assert/strict';
import { podTemplate, service } from '../../sandbox/client.ts';
import { apply, type Cases, eventually, merge, type Place } from '../place.ts';

/** Creating, patching and replacing, as the engine does it (packages/pipeline/src/render.ts). */
export const writeCases: Cases = {
  'a merge patch that carries the current resourceVersion is stored, and answered as stored': async (at) => {
    const created = await split(at);
    const { code, body } = await at.mergePatch(`${at.splits}/web`, {
      metadata: { resourceVersion: created.metadata.resourceVersion, annotations: { 'cdaas/fence': 'a.7' } },
      spec: { service: 'web', backends: backends(90, 10) },
    });
    assert.equal(code, 200);
    assert.deepEqual(body.spec.backends, backends(90, 10), 'a list is replaced as a whole');
    assert.equal(body.metadata.annotations?.['cdaas/fence'], 'a.7');
    assert.equal(body.metadata.uid, created.metadata.uid);
    assert.notEqual(body.metadata.resourceVersion, created.metadata.resourceVersion);
    assert.deepEqual(await at.done('GET', `${at.splits}/web`), body);
  },

  'a merge patch that carries a stale resourceVersion answers 409 Conflict and changes nothing': async (at) => {
    for (const [path, patch] of await oneOfEach(at)) {
      const before = await at.done('GET', path);
      const { resourceVersion } = before.metadata;
      const later = await at.done('PATCH', path, { metadata: { annotations: { by: 'others' } } }, merge);
      const { code, body } = await at.mergePatch(path, { metadata: { resourceVersion }, ...patch });
      assert.deepEqual([code, body.reason], [409, 'Conflict'], path);
      assert.equal(
        body.message,
        `Operation cannot be fulfilled on ${path.includes('/apis/') ? idOf(path) : path.split('/').at(-2)} "web": ` +
          'the object has been modified; please apply your changes to the latest version and try again',
      );
      assert.deepEqual(await at.done('GET', path), later);
    }
  },

  'null in a merge patch takes a key away and leaves its neighbours': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }, { labels: { team: 'a' } }));
    const pin = {
      metadata: { labels: { 'cdaas/deployment': 'd1' }, annotations: { 'cdaas/fence': 'd1.3' } },
      spec: { selector: { 'armory-pod-template-hash': 'old' } },
    };
    const pinned = await at.mergePatch(`${at.core}/services/web`, pin);
    assert.deepEqual(pinned.body.spec.selector, { app: 'web', 'armory-pod-template-hash': 'old' });
    const { body } = await at.mergePatch(`${at.core}/services/web`, {
      metadata: {
        resourceVersion: pinned.body.metadata.resourceVersion,
        labels: { 'cdaas/deployment': null },
        annotations: { 'cdaas/fence': null, 'never-there': null },
      },
      spec: { selector: { 'armory-pod-template-hash': null } },
    });
    assert.deepEqual(body.spec.selector, { app: 'web' });
    assert.deepEqual(body.metadata.labels, { team: 'a' });
    assert.equal(body.metadata.annotations, undefined, 'the last annotation leaves no empty map');
  },

  'a patch that changes nothing keeps the resourceVersion': async (at) => {
    for (const [path, patch] of await oneOfEach(at)) {
      await at.done('PATCH', path, patch, merge);
      const changed = await eventually(
        at,
        'its controller saw that',
        path,
        ({ metadata, status }) =>
          !status || status.observedGeneration === metadata.generation || path.includes('/services/'),
      );
      const { body } = await at.mergePatch(path, patch);
      assert.equal(body.metadata.resourceVersion, changed.metadata.resourceVersion, path);
    }
  },

  'a patch of an object that is not there answers 404 NotFound': async (at) => {
    const { code, body } = await at.mergePatch(`${at.splits}/web`, { metadata: { resourceVersion: '1' } });
    assert.deepEqual([code, body.reason], [404, 'NotFound']);
    assert.equal(body.message, 'trafficsplits.split.smi-spec.io "web" not found');
    const gone = await at.mergePatch(`${at.core}/services/web`, { spec: { selector: { app: 'b' } } });
    assert.deepEqual([gone.code, gone.body.message], [404, 'services "web" not found']);
  },

  'a change of the specification counts in metadata.generation, a change of metadata does not': async (at) => {
    await at.done('POST', `${at.apps}/replicasets`, replicaSet(0));
    await split(at);
    for (const [path, change] of [
      [`${at.apps}/replicasets/web`, { spec: { replicas: 1 } }],
      [`${at.splits}/web`, { spec: { service: 'web', backends: backends(90, 10) } }],
    ] as const) {
      const before = await at.done('GET', path);
      assert.equal(before.metadata.generation, 1, path);
      const noted = await at.done('PATCH', path, { metadata: { annotations: { note: 'x' } } }, merge);
      assert.equal(noted.metadata.generation, 1, path);
      const changed = await at.done('PATCH', path, change, merge);
      assert.equal(changed.metadata.generation, 2, path);
    }
    const { metadata } = await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    assert.equal(metadata.generation, undefined, 'Services have none');
  },

  'a patch leaves the status alone, and a patch of the status leaves all else alone': async (at) => {
    const set = await at.done('POST', `${at.apps}/replicasets`, { ...replicaSet(1), status: { replicas: 7 } });
    assert.equal(set.status.replicas, 0, 'the status of a creation is not taken');
    const path = `${at.apps}/replicasets/web`;
    await eventually(at, 'the pod is ready', path, ({ status }) => status.readyReplicas === 1);
    const patched = await at.mergePatch(path, { metadata: { labels: { a: 'b' } }, status: { replicas: 9 } });
    assert.deepEqual([patched.body.status.replicas, patched.body.metadata.labels?.a], [1, 'b']);

    const pods = await at.done('GET', `${at.core}/pods`);
    const pod = `${at.core}/pods/${pods.items[0]?.metadata.name}`;
    const condition = { type: 'example.org/checked', status: 'True' };
    const answered = await at.done(
      'PATCH',
      `${pod}/status`,
      {
        metadata: { labels: { more: 'yes' } },
        status: { phase: 'Running', conditions: [condition] },
      },
      merge,
    );
    assert.equal(answered.status.conditions[0]?.type, condition.type);
    assert.equal(answered.spec.nodeName, pods.items[0]?.spec.nodeName);
  },

  'a creation answers 201 with uid, resourceVersion and the defaults filled in': async (at) => {
    const { code, body } = await at.call('POST', `${at.core}/services`, {
      metadata: { name: 'web-canary', labels: { 'cdaas/deployment': 'd1' }, annotations: { note: 'x' } },
      spec: {
        type: 'ClusterIP',
        ports: [{ port: 80 }, { name: 'b', port: 81, targetPort: 'http' }].slice(0, 1),
        selector: { a: 'b' },
      },
    });
    assert.equal(code, 201);
    assert.match(body.metadata.uid, /^[0-9a-f-]{36}$/);
    assert.match(body.metadata.resourceVersion, /^\d+$/);
    assert.deepEqual(body.metadata.labels, { 'cdaas/deployment': 'd1' });
    assert.deepEqual(body.metadata.annotations, { note: 'x' });
    assert.match(body.spec.clusterIP, /^10\./);
    const { clusterIP: _, clusterIPs: __, ...spec } = body.spec as Record<string, unknown>;
    assert.deepEqual(spec, {
      type: 'ClusterIP',
      ports: [{ port: 80, targetPort: 80, protocol: 'TCP' }],
      selector: { a: 'b' },
      sessionAffinity: 'None',
      internalTrafficPolicy: 'Cluster',
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
    });
    assert.deepEqual(body.status, { loadBalancer: {} });
  },

  'a ReplicaSet keeps only the labels that it was given, and makes no pod at 0 replicas': async (at) => {
    const { body } = await at.call('POST', `${at.apps}/replicasets`, replicaSet(0, { 'cdaas/deployment': 'd1' }));
    assert.deepEqual(body.metadata.labels, { 'cdaas/deployment': 'd1' });
    assert.equal(body.spec.replicas, 0);
    const seen = await eventually(
      at,
      'the controller saw it',
      `${at.apps}/replicasets/web`,
      ({ status }) => status.observedGeneration === 1,
    );
    assert.equal(seen.status.replicas, 0);
    assert.equal((await at.done('GET', `${at.core}/pods`)).items.length, 0);
  },

  'a ReplicaSet without spec.replicas gets 1': async (at) => {
    const { spec, metadata } = replicaSet(0);
    const { replicas: _, ...rest } = spec;
    const body = await at.done('POST', `${at.apps}/replicasets`, { metadata, spec: rest });
    assert.equal(body.spec.replicas, 1);
  },

  'a creation under a name that is taken answers 409 AlreadyExists': async (at) => {
    const bodies = [service('web', { app: 'web' }), replicaSet(0), splitBody];
    for (const [index, [path]] of (await oneOfEach(at)).entries()) {
      const { code, body } = await at.call('POST', path.slice(0, path.lastIndexOf('/')), bodies[index]);
      assert.deepEqual([code, body.reason], [409, 'AlreadyExists'], path);
      const id = path.includes('/apis/') ? idOf(path) : path.split('/').at(-2);
      assert.equal(body.message, `${id} "web" already exists`);
      assert.equal(body.details.name, 'web');
    }
  },

  'a creation of a Service whose node port is taken answers 422, even where its name is taken too': async (at) => {
    const saved = await at.done('POST', `${at.core}/services`, nodePort('web'));
    const taken = nodePort('web', Reflect.get(saved.spec.ports[0] ?? {}, 'nodePort') as number);
    const { code, body } = await at.call('POST', `${at.core}/services`, taken);
    assert.deepEqual([code, body.reason, body.details.causes[0]?.field], [422, 'Invalid', 'spec.ports[0].nodePort']);
    assert.match(body.message, /provided port is already allocated$/);
  },

  'a creation of a Service whose cluster address is taken answers 422, even where its name is taken too': async (
    at,
  ) => {
    const saved = await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const { clusterIP } = saved.spec;
    const { code, body } = await at.call('POST', `${at.core}/services`, {
      metadata: { name: 'web' },
      spec: { clusterIP, ports: [{ port: 80 }] },
    });
    assert.deepEqual([code, body.reason, body.details.causes[0]?.field], [422, 'Invalid', 'spec.clusterIPs']);
    assert.match(body.message, /provided IP is already allocated$/);
  },

  'a creation in a namespace that is not there answers 404 and names the namespace': async (at) => {
    const path = '/api/v1/namespaces/conf-nowhere/services';
    const { code, body } = await at.call('POST', path, service('web', { app: 'web' }));
    assert.deepEqual([code, body.reason], [404, 'NotFound']);
    assert.equal(body.message, 'namespaces "conf-nowhere" not found');
  },

  'a PUT with the current resourceVersion puts the whole object back, and the status stays': async (at) => {
    const saved = await at.done(
      'POST',
      `${at.core}/services`,
      service('web', { app: 'web' }, { labels: { team: 'a' } }),
    );
    const changed = await at.done(
      'PATCH',
      `${at.core}/services/web`,
      {
        metadata: { labels: { more: 'x' }, annotations: { note: 'y' } },
        spec: { selector: { app: 'other' }, ports: [{ port: 8080 }] },
      },
      merge,
    );
    const { name, namespace, uid, labels } = saved.metadata;
    const metadata = { name, namespace, uid, labels, resourceVersion: changed.metadata.resourceVersion };
    const { code, body } = await at.call('PUT', `${at.core}/services/web?fieldManager=cdaas`, { ...saved, metadata });
    assert.equal(code, 200);
    assert.deepEqual(body.spec, saved.spec);
    assert.deepEqual(body.metadata.labels, { team: 'a' });
    assert.equal(body.metadata.annotations, undefined);
    assert.equal(body.metadata.creationTimestamp, saved.metadata.creationTimestamp);
  },

  'a PUT with a stale resourceVersion or the uid of an earlier object answers 409': async (at) => {
    const saved = await at.done('POST', `${at.core}/configmaps`, { metadata: { name: 'web' }, data: { a: '1' } });
    const changed = await at.done('PATCH', `${at.core}/configmaps/web`, { data: { a: '2' } }, merge);
    const stale = await at.call('PUT', `${at.core}/configmaps/web`, saved);
    assert.deepEqual([stale.code, stale.body.reason], [409, 'Conflict']);
    const uid = '00000000-0000-4000-8000-000000000000';
    const foreign = await at.call('PUT', `${at.core}/configmaps/web`, {
      ...changed,
      metadata: { ...changed.metadata, uid },
    });
    assert.deepEqual([foreign.code, foreign.body.reason], [409, 'Conflict']);
    assert.match(foreign.body.message, /uid/i);
    assert.deepEqual((await at.done('GET', `${at.core}/configmaps/web`)).data, { a: '2' });
  },

  'a merge patch that carries the uid of an earlier object answers 422': async (at) => {
    await at.done('POST', `${at.core}/configmaps`, { metadata: { name: 'web' }, data: { a: '1' } });
    const uid = '00000000-0000-4000-8000-000000000000';
    const { code, body } = await at.mergePatch(`${at.core}/configmaps/web`, { metadata: { uid }, data: { a: '2' } });
    assert.deepEqual([code, body.reason, body.details.causes[0]?.field], [422, 'Invalid', 'metadata.uid']);
  },

  'a NodePort Service that is put back keeps its node port and cluster address': async (at) => {
    const saved = await at.done('POST', `${at.core}/services`, nodePort('web'));
    const pinned = await at.done('PATCH', `${at.core}/services/web`, { spec: { selector: { hash: 'x' } } }, merge);
    assert.deepEqual(pinned.spec.ports, saved.spec.ports);
    const metadata = { ...saved.metadata, resourceVersion: pinned.metadata.resourceVersion };
    const restored = await at.done('PUT', `${at.core}/services/web`, { ...saved, metadata });
    assert.deepEqual(restored.spec, saved.spec);
  },

  'a PUT of a Service without its cluster address keeps it': async (at) => {
    const saved = await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const body = service('web', { app: 'b' }, { resourceVersion: saved.metadata.resourceVersion });
    const put = await at.done('PUT', `${at.core}/services/web`, body);
    assert.deepEqual([put.spec.clusterIP, put.spec.selector], [saved.spec.clusterIP, { app: 'b' }]);
  },

  'a write that is only tried (dryRun=All) is checked, answered and not stored': async (at) => {
    const tried = await at.call('POST', `${at.core}/configmaps?dryRun=All`, { metadata: { name: 'web' } });
    assert.equal(tried.code, 201);
    assert.equal((await at.call('GET', `${at.core}/configmaps/web`)).code, 404);
    const path = `${at.core}/configmaps/web?dryRun=All&fieldManager=cdaas&force=true`;
    const applied = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'web' } };
    assert.equal((await at.call('PATCH', path, applied, apply)).code, 201);
    assert.equal((await at.call('GET', `${at.core}/configmaps/web`)).code, 404);
  },

  'fields that the schema of a custom resource does not have are dropped from what is stored': async (at) => {
    await split(at);
    const stored = await at.done('PATCH', `${at.splits}/web`, { spec: { surprise: 1 } }, merge);
    assert.equal(Reflect.get(stored.spec, 'surprise'), undefined);
  },
};

export function backends(stable: number | string, canary: number | string) {
  return [
    { service: 'web', weight: stable },
    { service: 'web-canary', weight: canary },
  ];
}

export function split({ done, splits }: Place) {
  return done('POST', splits, splitBody);
}

const splitBody = {
  apiVersion: 'split.smi-spec.io/v1alpha2',
  kind: 'TrafficSplit',
  metadata: { name: 'web' },
  spec: { service: 'web', backends: backends(100, 0) },
};

export function replicaSet(replicas: number, labels?: Record<string, string>) {
  const own = { app: 'web', 'armory-pod-template-hash': 'new' };
  return {
    metadata: { name: 'web', ...(labels ? { labels } : {}) },
    spec: { replicas, selector: { matchLabels: own }, template: podTemplate(own) },
  };
}

function nodePort(name: string, port?: number) {
  const ports = [{ port: 80, ...(port === undefined ? {} : { nodePort: port }) }];
  return { metadata: { name }, spec: { type: 'NodePort', selector: { app: 'web' }, ports } };
}

/** Creates one object of each kind that the engine patches; answers their paths, and a patch that changes each. */
async function oneOfEach(at: Place): Promise<[path: string, patch: object][]> {
  await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
  await at.done('POST', `${at.apps}/replicasets`, replicaSet(0));
  await split(at);
  await eventually(
    at,
    'the controller saw the ReplicaSet',
    `${at.apps}/replicasets/web`,
    ({ status }) => status.observedGeneration === 1,
  );
  return [
    [`${at.core}/services/web`, { spec: { selector: { 'armory-pod-template-hash': 'old' } } }],
    [`${at.apps}/replicasets/web`, { spec: { minReadySeconds: 1 } }],
    [`${at.splits}/web`, { spec: { backends: backends(90, 10) } }],
  ];
}

/** `plural.group` of a path under /apis. */
function idOf(path: string): string {
  const parts = path.split('/');
  return `${parts.at(-2)}.${parts[2]}`;
}

import assert from 'node:assert/strict';
import { service } from '../../sandbox/client.ts';
import { until } from '../../support/until.ts';
import { type Cases, eventually, type Place } from '../place.ts';
import { backends, replicaSet, split } from './writes.ts';

/** What the API answers to what it does not take: the engine decides by status, reason and causes what to do next. */
export const refusalCases: Cases = {
  'a path that is no part of the API answers 404': async (at) => {
    for (const path of ['/apis/nope.example.org', '/apis/nope.example.org/v1', '/nowhere']) {
      const { code, body, type } = await at.call('GET', path);
      assert.deepEqual(
        [code, String(body).trim(), type.split(';')[0]],
        [404, '404 page not found', 'text/plain'],
        path,
      );
    }
  },

  'a version or resource that a served group does not have answers 404 with a Status': async (at) => {
    for (const path of [
      '/apis/apps/v7',
      `${at.apps}/nopes`,
      `${at.core}/nopes/a`,
      `/apis/apps/v1/namespaces/${at.namespace}/services`,
    ]) {
      const { code, body } = await at.call('GET', path);
      assert.deepEqual([code, body.kind, body.reason], [404, 'Status', 'NotFound'], path);
      assert.equal(body.message, 'the server could not find the requested resource');
    }
  },

  'an object that is not there answers 404 and says of what kind it would be': async (at) => {
    const { code, body } = await at.call('GET', `${at.apps}/replicasets/web`);
    assert.equal(code, 404);
    const { kind, apiVersion, status, message, reason, details } = body as unknown as Record<string, unknown>;
    assert.deepEqual(
      { kind, apiVersion, status, message, reason, details },
      {
        kind: 'Status',
        apiVersion: 'v1',
        status: 'Failure',
        message: 'replicasets.apps "web" not found',
        reason: 'NotFound',
        details: { name: 'web', group: 'apps', kind: 'replicasets' },
      },
    );
  },

  'a method that a path does not have answers 405': async (at) => {
    for (const [method, path] of [
      ['PUT', `${at.core}/services`],
      ['POST', `${at.core}/services/web`],
      ['PATCH', `${at.core}/services`],
    ] as const) {
      const { code, body } = await at.call(method, path, service('web', { app: 'web' }));
      assert.deepEqual([code, body.reason], [405, 'MethodNotAllowed'], `${method} ${path}`);
      assert.equal(body.message, 'the server does not allow this method on the requested resource');
    }
  },

  'a patch of a type that is not known answers 415': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const { code, body } = await at.call(
      'PATCH',
      `${at.core}/services/web`,
      {},
      { 'content-type': 'application/json' },
    );
    assert.deepEqual([code, body.reason], [415, 'UnsupportedMediaType']);
  },

  'a strategic merge patch of a custom resource answers 415': async (at) => {
    await split(at);
    const strategic = { 'content-type': 'application/strategic-merge-patch+json' };
    const { code, body } = await at.call('PATCH', `${at.splits}/web`, { spec: { service: 'x' } }, strategic);
    assert.deepEqual([code, body.reason], [415, 'UnsupportedMediaType']);
  },

  'a body that is not JSON, or no object, answers 400': async (at) => {
    const { code, body } = await at.call('POST', `${at.core}/services`, 'text');
    assert.deepEqual([code, body.reason], [400, 'BadRequest']);
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const patch = await at.mergePatch(`${at.core}/services/web`, 'text');
    assert.deepEqual([patch.code, patch.body.reason], [400, 'BadRequest']);
  },

  'a field of the wrong type answers 400 at creation': async (at) => {
    const body = { metadata: { name: 'web' }, spec: { selector: { app: 7 }, ports: [{ port: 80 }] } };
    const answer = await at.call('POST', `${at.core}/services`, body);
    assert.deepEqual([answer.code, answer.body.reason], [400, 'BadRequest']);
    assert.match(answer.body.message, /^Service in version "v1" cannot be handled as a Service: /);
  },

  'an apiVersion or kind that is not that of the path answers 400': async (at) => {
    const wrongKind = { apiVersion: 'v1', kind: 'Pod', ...service('web', { app: 'web' }) };
    const kind = await at.call('POST', `${at.core}/services`, wrongKind);
    assert.deepEqual([kind.code, kind.body.reason], [400, 'BadRequest']);
    const other = { ...service('web', { app: 'web' }), metadata: { name: 'web', namespace: 'other' } };
    const space = await at.call('POST', `${at.core}/services`, other);
    assert.deepEqual([space.code, space.body.reason], [400, 'BadRequest']);
    assert.match(
      space.body.message,
      /namespace of the provided object does not match the namespace sent on the request/,
    );
  },

  'an invalid Service answers 422 with a cause for each fault': async (at) => {
    const { code, body } = await at.call('POST', `${at.core}/services`, {
      metadata: { name: '1web' },
      spec: { selector: { app: 'web' }, ports: [{ port: 0 }, { port: 81 }] },
    });
    assert.deepEqual([code, body.reason], [422, 'Invalid']);
    assert.match(
      body.message,
      /^Service "1web" is invalid: \[metadata\.name: Invalid value: "1web": a DNS-10\d\d label/,
    );
    assert.deepEqual([body.details.name, body.details.kind], ['1web', 'Service']);
    const causes = body.details.causes.map(({ reason, field }) => `${field} ${reason}`);
    assert.deepEqual(causes, [
      'metadata.name FieldValueInvalid',
      'spec.ports[0].name FieldValueRequired',
      'spec.ports[0].port FieldValueInvalid',
      'spec.ports[0].targetPort FieldValueInvalid',
      'spec.ports[1].name FieldValueRequired',
    ]);
  },

  'an invalid ReplicaSet answers 422 in the words that people know': async (at) => {
    const { metadata, spec } = replicaSet(0);
    const selector = { matchLabels: { app: 'other' } };
    const { code, body } = await at.call('POST', `${at.apps}/replicasets`, { metadata, spec: { ...spec, selector } });
    assert.deepEqual([code, body.reason], [422, 'Invalid']);
    assert.match(
      body.message,
      /^ReplicaSet\.apps "web" is invalid: spec\.template\.metadata\.labels: Invalid value: \{.*\}: `selector` does not match template `labels`$/,
    );
    assert.deepEqual(
      body.details.causes.map(({ field }) => field),
      ['spec.template.metadata.labels'],
    );
  },

  'the selector of a ReplicaSet cannot be changed': async (at) => {
    await at.done('POST', `${at.apps}/replicasets`, replicaSet(0));
    const { code, body } = await at.mergePatch(`${at.apps}/replicasets/web`, {
      spec: {
        selector: { matchLabels: { more: 'x' } },
        template: { metadata: { labels: { more: 'x' } } },
      },
    });
    assert.deepEqual([code, body.reason, body.details.causes[0]?.field], [422, 'Invalid', 'spec.selector']);
    assert.match(body.message, /field is immutable$/);
  },

  'a custom resource that its schema forbids answers 422 with causes': async (at) => {
    await split(at);
    const { code, body } = await at.mergePatch(`${at.splits}/web`, { spec: { service: 7 } });
    assert.deepEqual([code, body.reason], [422, 'Invalid']);
    assert.match(body.message, /^TrafficSplit\.split\.smi-spec\.io "web" is invalid: spec\.service: Invalid value: /);
    assert.match(body.message, /spec\.service in body must be of type string: "integer"$/);
    assert.deepEqual(
      body.details.causes.map(({ reason, field }) => [reason, field]),
      [['FieldValueTypeInvalid', 'spec.service']],
    );
    const missing = await at.mergePatch(`${at.splits}/web`, { spec: { service: null, backends: backends(1, 0) } });
    assert.deepEqual([missing.code, missing.body.details.causes[0]?.reason], [422, 'FieldValueRequired']);
  },

  'a body above the limit of the API answers 413': async (at) => {
    const data = { text: 'x'.repeat(3.5 * 1024 * 1024) };
    const { code, body } = await at.call('POST', `${at.core}/configmaps`, { metadata: { name: 'large' }, data });
    assert.deepEqual([code, body.reason], [413, 'RequestEntityTooLarge']);
  },

  'a ConfigMap above 1 MiB answers 422': async (at) => {
    const data = { text: 'x'.repeat(1024 * 1024 + 1) };
    const { code, body } = await at.call('POST', `${at.core}/configmaps`, { metadata: { name: 'large' }, data });
    assert.deepEqual([code, body.reason], [422, 'Invalid']);
    assert.match(body.message, /Too long: may not be more than 1048576 bytes/);
  },

  'a namespace that is being deleted refuses creations with 403 and the cause NamespaceTerminating': async (at) => {
    await at.done('POST', `${at.core}/configmaps`, {
      metadata: { name: 'stays', finalizers: ['example.org/wait'] },
    });
    await at.done('DELETE', `/api/v1/namespaces/${at.namespace}`);
    const { code, body } = await at.call('POST', `${at.core}/services`, service('web', { app: 'web' }));
    assert.deepEqual([code, body.reason], [403, 'Forbidden']);
    assert.equal(
      body.message,
      `services "web" is forbidden: unable to create new content in namespace ${at.namespace} because it is being terminated`,
    );
    assert.deepEqual(body.details.causes, [
      {
        reason: 'NamespaceTerminating',
        message: `namespace ${at.namespace} is being terminated`,
        field: 'metadata.namespace',
      },
    ]);
    const patched = await at.mergePatch(`${at.core}/configmaps/stays`, { data: { still: 'changes' } });
    assert.equal(patched.code, 200, 'what stands can still be changed');
    await at.mergePatch(`${at.core}/configmaps/stays`, { metadata: { finalizers: null } });
    await until(
      async () => (await at.call('GET', `/api/v1/namespaces/${at.namespace}`)).code === 404,
      'the namespace is gone',
    );
  },

  'a deleted namespace takes everything in it along': async (at) => {
    await at.done('POST', `${at.apps}/replicasets`, replicaSet(0));
    await split(at);
    await at.done('DELETE', `/api/v1/namespaces/${at.namespace}`);
    await until(
      async () => (await at.call('GET', `/api/v1/namespaces/${at.namespace}`)).code === 404,
      'the namespace is gone',
    );
    for (const path of [`${at.apps}/replicasets`, at.splits]) {
      assert.deepEqual((await at.done('GET', path)).items, [], path);
    }
  },

  'a quota that is exhausted refuses creations with 403 and says which': async (at) => {
    // Made before the quota: what is counted on admission its controller may count away again for a moment.
    await at.done('POST', `${at.core}/services`, service('one', { app: 'web' }));
    await quota(at, { services: '1' }, { services: '1' });
    const { code, body } = await at.call('POST', `${at.core}/services`, service('two', { app: 'web' }));
    assert.deepEqual([code, body.reason], [403, 'Forbidden']);
    assert.equal(
      body.message,
      'services "two" is forbidden: exceeded quota: small, requested: services=1, used: services=1, limited: services=1',
    );
  },

  'a ReplicaSet whose pods a quota refuses says so in its conditions': async (at) => {
    await quota(at, { pods: '1' });
    await at.done('POST', `${at.apps}/replicasets`, replicaSet(2));
    const { status } = await eventually(
      at,
      'the failure is told',
      `${at.apps}/replicasets/web`,
      (set) => set.status.replicas === 1 && set.status.conditions?.some(({ type }) => type === 'ReplicaFailure'),
    );
    const failure = status.conditions.find(({ type }) => type === 'ReplicaFailure');
    assert.deepEqual([failure?.status, failure?.reason], ['True', 'FailedCreate']);
    assert.match(
      failure?.message ?? '',
      /^pods "web-\w+" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1$/,
    );
  },

  'a write that admission control refuses answers in its words and stores nothing': async (at) => {
    await at.refuseConfigMaps('ask the platform team');
    const body = { metadata: { name: 'web' }, data: {} };
    const refused = await at.call('POST', `${at.core}/configmaps`, body);
    assert.deepEqual([refused.code, refused.body.reason], [422, 'Invalid']);
    assert.match(refused.body.message, /ask the platform team$/);
    assert.equal((await at.call('GET', `${at.core}/configmaps/web`)).code, 404);
    const applied = await at.applyAs(
      'cdaas',
      `${at.core}/configmaps/web`,
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'web' } },
      true,
    );
    assert.equal(applied.code, 422);
  },
};

async function quota(at: Place, hard: Record<string, string>, counted: Record<string, string> = {}): Promise<void> {
  await at.done('POST', `${at.core}/resourcequotas`, { metadata: { name: 'small' }, spec: { hard } });
  // Its controller counts what is there; admission goes by the status, which is set here to the same at once.
  const used = Object.fromEntries(Object.keys(hard).map((key) => [key, counted[key] ?? '0']));
  const merge = { 'content-type': 'application/merge-patch+json' };
  await at.done('PATCH', `${at.core}/resourcequotas/small/status`, { status: { hard, used } }, merge);
}

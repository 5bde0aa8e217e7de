import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deniedByAdmission } from '@cdaas/pipeline/deployment-state.ts';
import type { Answered } from './kube-exchange.ts';
import { refusalWords } from './refusal-words.ts';
import { understand } from './understand.ts';

const ref = { apiVersion: 'v1', kind: 'Service', namespace: 'shop', name: 'web' };
const metadata = { name: 'web', namespace: 'shop', uid: 'u', resourceVersion: '7' };
const service = { apiVersion: 'v1', kind: 'Service', metadata, spec: {} };
const answer = (status: number, body: unknown): Answered => ({ kind: 'answered', status, body });
const notFound = (details: unknown) => answer(404, { kind: 'Status', reason: 'NotFound', details });

describe('an answer about an object', () => {
  test('is believed where it is about that object, and whole', () => {
    const understood = understand(answer(200, service), ref);
    assert.deepEqual(understood, { kind: 'object', object: service });
    assert.deepEqual(understand(notFound({ name: 'web', kind: 'services' }), ref), { kind: 'gone' });
    const forbidden = answer(403, {});
    assert.equal(understand(forbidden, ref), forbidden);
  });

  const odd: [string, unknown, RegExp][] = [
    ['another name', { ...service, metadata: { ...metadata, name: 'other' } }, /another object than Service web/],
    ['another namespace', { ...service, metadata: { ...metadata, namespace: 'b' } }, /another object/],
    ['no namespace', { ...service, metadata: { ...metadata, namespace: undefined } }, /another object/],
    ['another kind', { ...service, kind: 'Secret' }, /another object/],
    ['another version', { ...service, apiVersion: 'v2' }, /another object/],
    ['no resourceVersion', { ...service, metadata: { ...metadata, resourceVersion: '' } }, /without a resourceVersion/],
    ['no uid', { ...service, metadata: { ...metadata, uid: undefined } }, /without a uid/],
    ['a selector that is none', { ...service, spec: { selector: 'app=web' } }, /malformed/],
    ['a Status', { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' }, /malformed/],
    ['null', null, /malformed/],
  ];
  for (const [what, body, words] of odd) {
    test(`says nothing of it with ${what}`, () => {
      const understood = understand(answer(200, body), ref);
      assert.ok(understood.kind === 'unreachable' && understood.sent);
      assert.match(understood.reason, words);
    });
  }

  test('does not say that it is gone where its kind, its path or something else is not found', () => {
    for (const details of [undefined, {}, { name: 'shop', kind: 'namespaces' }, []]) {
      const understood = understand(notFound(details), ref);
      assert.ok(understood.kind === 'unreachable');
      assert.match(understood.reason, /does not serve Service of v1 now/);
    }
  });
});

describe('the words of a refusal', () => {
  const asked = { verb: 'patch', resource: 'services', namespace: 'shop', name: 'web' } as const;
  const refusal = (status: number, message: string) => {
    const body = { kind: 'Status', reason: 'Forbidden', message };
    return refusalWords({ ...answer(status, body), asked }, body);
  };

  test('name the right that is missing', () => {
    const said = 'services "web" is forbidden: User "x" cannot patch resource "services" in API group ""';
    assert.deepEqual(refusal(403, said), {
      reason: 'Forbidden',
      message: `the credential may not patch services web in namespace shop: ${said}`,
    });
    assert.equal(refusalWords({ ...answer(403, undefined), asked }, undefined).reason, '');
    assert.match(refusal(403, '').message, /^the credential may not patch services web in namespace shop/);
    assert.equal(
      refusal(401, 'Unauthorized').message,
      'the cluster does not accept the credential, asked to patch services web in namespace shop',
    );
  });

  test('tell admission from rights', () => {
    for (const said of [
      'services "web" is forbidden: exceeded quota: q, requested: count/services=1',
      'replicasets.apps "web" is forbidden: unable to create new content in namespace shop because it is being terminated',
      'services "web" is forbidden: ValidatingAdmissionPolicy "p" with binding "b" denied request: no',
      'admission webhook "w.example.org" denied the request: no',
    ]) {
      assert.deepEqual(refusal(403, said), { reason: deniedByAdmission, message: said });
    }
  });

  test('name what was asked for where the cluster says little, and leave its words alone where they say enough', () => {
    assert.equal(refusal(503, 'etcd is slow').message, 'etcd is slow, asked to patch services web in namespace shop');
    const none = refusalWords({ ...answer(500, undefined), asked }, undefined).message;
    assert.equal(none, 'the cluster gave no reason, asked to patch services web in namespace shop');
    assert.equal(refusal(422, 'Service "web" is invalid').message, 'Service "web" is invalid');
  });
});

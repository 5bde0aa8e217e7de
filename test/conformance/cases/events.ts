import assert from 'node:assert/strict';
import { service } from '../../sandbox/client.ts';
import { type Cases, merge, type Place } from '../place.ts';

/** Kubernetes Events, by which kubectl describe tells what the engine did. */
export const eventCases: Cases = {
  'an Event is stored as given and found by what it is about': async (at) => {
    const { body } = await about(at);
    assert.equal(body.kind, 'Event');
    const uid = body.involvedObject.uid;
    const selector = `involvedObject.uid=${uid},involvedObject.name=web,involvedObject.namespace=${at.namespace},involvedObject.kind=Service`;
    const { items } = await at.done('GET', `${at.core}/events?fieldSelector=${encodeURIComponent(selector)}`);
    assert.deepEqual(
      items.map(({ reason, message }) => [reason, message]),
      [['TrafficShifted', '10 % of traffic']],
    );
    const none = encodeURIComponent('involvedObject.name=other');
    assert.deepEqual((await at.done('GET', `${at.core}/events?fieldSelector=${none}`)).items, []);
  },

  'an Event under a name that is taken answers 409, and can be counted up by a patch': async (at) => {
    await about(at);
    const again = await about(at, 'web.2');
    assert.equal(again.code, 201);
    assert.equal((await about(at, 'web.2')).code, 409);
    const patched = await at.done('PATCH', `${at.core}/events/web.2`, { count: 2 }, merge);
    assert.equal(Reflect.get(patched, 'count'), 2);
  },

  'an Event about an object of another namespace is refused': async (at) => {
    const { code } = await about(at, 'web.1', { namespace: 'default' });
    assert.equal(code, 422);
  },

  'an Event whose message is longer than 1024 characters is taken in core/v1': async (at) => {
    assert.equal((await about(at, 'web.1', {}, 'x'.repeat(1025))).code, 201);
  },
};

async function about(at: Place, name = 'web.1', more: object = {}, message = '10 % of traffic') {
  const known = await at.call('GET', `${at.core}/services/web`);
  const web =
    known.code === 200 ? known.body : await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
  const second = '2026-01-01T00:00:00Z';
  return at.call('POST', `${at.core}/events`, {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace: at.namespace },
    involvedObject: {
      apiVersion: 'v1',
      kind: 'Service',
      namespace: at.namespace,
      name: 'web',
      uid: web.metadata.uid,
      ...more,
    },
    reason: 'TrafficShifted',
    message,
    type: 'Normal',
    count: 1,
    firstTimestamp: second,
    lastTimestamp: second,
    source: { component: 'cdaas' },
    reportingComponent: 'cdaas',
    reportingInstance: 'i1',
  });
}

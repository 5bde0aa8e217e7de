import assert from 'node:assert/strict';
import { service } from '../../sandbox/client.ts';
import { until } from '../../support/until.ts';
import { type Cases, merge, type Place } from '../place.ts';
import { readySet } from './deletion.ts';
import { labelled } from './reads.ts';
import { backends, split } from './writes.ts';

/** Watches as drivers/kube-watch.ts follows them. */
export const watchCases: Cases = {
  'a watch from a version delivers every later change once and in order': async (at) => {
    await at.done('POST', `${at.core}/configmaps`, labelled('before'));
    const since = await versionNow(at);
    await at.done('POST', `${at.core}/configmaps`, labelled('a'));
    const { events } = await at.watch(`${at.core}/configmaps?watch=true&resourceVersion=${since}`);
    await at.done('PATCH', `${at.core}/configmaps/a`, { data: { x: '1' } }, merge);
    await at.done('DELETE', `${at.core}/configmaps/a`);
    await at.done('POST', `${at.core}/configmaps`, labelled('last'));
    await until(() => events.some(({ object }) => object.metadata.name === 'last'), 'the last change');
    const own = events.filter(({ object }) => object.metadata.labels?.team === 'x');
    assert.deepEqual(
      own.map(({ type, object }) => `${type} ${object.metadata.name}`),
      ['ADDED a', 'MODIFIED a', 'DELETED a', 'ADDED last'],
    );
    const versions = own.map(({ object }) => Number(object.metadata.resourceVersion));
    assert.deepEqual(
      versions,
      [...versions].sort((a, b) => a - b),
    );
    assert.equal(new Set(versions).size, 4, 'a deletion has a version of its own');
    assert.deepEqual(own[2]?.object.data, { x: '1' }, 'and shows the object as it was last');
    assert.equal(own[0]?.object.kind, 'ConfigMap', 'events say the kind, other than lists');
  },

  'a watch by label shows what begins to match as ADDED and what ceases to as DELETED': async (at) => {
    await at.done('POST', `${at.core}/services`, service('web', { app: 'web' }));
    const since = await versionNow(at);
    const query = `watch=true&labelSelector=cdaas%2Fdeployment&resourceVersion=${since}`;
    const { events } = await at.watch(`${at.core}/services?${query}`);
    const label = (value: string | null) => ({ metadata: { labels: { 'cdaas/deployment': value } } });
    await at.done('PATCH', `${at.core}/services/web`, label('d1'), merge);
    await at.done('PATCH', `${at.core}/services/web`, label('d2'), merge);
    const freed = await at.done('PATCH', `${at.core}/services/web`, label(null), merge);
    await until(() => events.some(({ type }) => type === 'DELETED'), 'it ceased to match');
    assert.deepEqual(
      events.map(({ type }) => type),
      ['ADDED', 'MODIFIED', 'DELETED'],
    );
    assert.equal(events[2]?.object.metadata.resourceVersion, freed.metadata.resourceVersion);
  },

  'a watch of a namespace shows nothing of others': async (at) => {
    const since = await versionNow(at);
    const { events } = await at.watch(`${at.core}/configmaps?watch=true&labelSelector=team&resourceVersion=${since}`);
    const other = { metadata: { name: `other-${at.namespace}`, labels: { team: 'x' } } };
    await at.done('POST', '/api/v1/namespaces/default/configmaps', other);
    await at.done('POST', `${at.core}/configmaps`, labelled('mine'));
    await until(() => events.length > 0, 'mine');
    assert.deepEqual(
      events.map(({ object }) => object.metadata.name),
      ['mine'],
    );
    await at.done('DELETE', `/api/v1/namespaces/default/configmaps/${other.metadata.name}`);
  },

  'a quiet watch that is about to end says by a bookmark how far it got, and the next goes on from there': async (
    at,
  ) => {
    const since = await versionNow(at);
    await at.done('POST', `${at.core}/services`, service('elsewhere', { app: 'web' }));
    const query = `watch=true&allowWatchBookmarks=true&labelSelector=team&timeoutSeconds=3&resourceVersion=${since}`;
    const began = Date.now();
    const { events, ended } = await at.watch(`${at.core}/configmaps?${query}`);
    await ended;
    const tookMs = Date.now() - began;
    assert.ok(tookMs > 1_500 && tookMs < 8_000, `it ended after ${tookMs} ms`);
    assert.deepEqual([...new Set(events.map(({ type }) => type))], ['BOOKMARK']);
    const last = events.at(-1)!.object;
    assert.equal(last.kind, 'ConfigMap');
    assert.ok(Number(last.metadata.resourceVersion) >= Number(since));
    await at.done('POST', `${at.core}/configmaps`, labelled('later'));
    const more = `watch=true&labelSelector=team&resourceVersion=${last.metadata.resourceVersion}`;
    const follow = await at.watch(`${at.core}/configmaps?${more}`);
    await until(() => follow.events.length > 0, 'it goes on');
    assert.equal(follow.events[0]?.object.metadata.name, 'later');
  },

  'a watch without bookmarks gets none and ends without an error': async (at) => {
    const since = await versionNow(at);
    const query = `watch=true&labelSelector=team&timeoutSeconds=1&resourceVersion=${since}`;
    const { events, ended } = await at.watch(`${at.core}/configmaps?${query}`);
    await ended;
    assert.deepEqual(events, []);
  },

  'a watch from a version that is forgotten ends with an ERROR of code 410 Expired': async (at) => {
    await at.done('POST', `${at.core}/configmaps`, labelled('a'));
    const { events, ended } = await at.watch(`${at.splits}?watch=true&resourceVersion=1`);
    await ended;
    assert.deepEqual(
      events.map(({ type, object }) => [type, object.code, object.reason]),
      [['ERROR', 410, 'Expired']],
    );
    assert.match(events[0]?.object.message ?? '', /^too old resource version: 1 \(\d+\)$/);
  },

  'a watch from a version that is yet to come is quiet': async (at) => {
    const query = 'watch=true&labelSelector=team&timeoutSeconds=1&resourceVersion=999999999';
    const { events, ended } = await at.watch(`${at.core}/configmaps?${query}`);
    await ended;
    assert.deepEqual(events, []);
  },

  'a watch of custom resources delivers each change of a TrafficSplit': async (at) => {
    const { metadata } = await at.done('GET', at.splits);
    const { events } = await at.watch(`${at.splits}?watch=true&resourceVersion=${metadata.resourceVersion}`);
    await split(at);
    await at.mergePatch(`${at.splits}/web`, { spec: { backends: backends(90, 10) } });
    await at.done('DELETE', `${at.splits}/web`);
    await until(() => events.some(({ type }) => type === 'DELETED'), 'its end');
    assert.deepEqual(
      events.map(({ type }) => type),
      ['ADDED', 'MODIFIED', 'DELETED'],
    );
    assert.deepEqual(events[1]?.object.spec.backends, backends(90, 10));
    assert.equal(events[1]?.object.apiVersion, 'split.smi-spec.io/v1alpha2');
  },

  'a watch of one object by its name shows only that object': async (at) => {
    const since = await versionNow(at);
    const query = `watch=true&fieldSelector=metadata.name%3Db&resourceVersion=${since}`;
    const { events } = await at.watch(`${at.core}/configmaps?${query}`);
    await at.done('POST', `${at.core}/configmaps`, labelled('a'));
    await at.done('POST', `${at.core}/configmaps`, labelled('b'));
    await until(() => events.length > 0, 'b');
    assert.deepEqual(
      events.map(({ object }) => object.metadata.name),
      ['b'],
    );
  },

  'a watch without a version begins with what is there': async (at) => {
    await at.done('POST', `${at.core}/configmaps`, labelled('a'));
    const { events } = await at.watch(`${at.core}/configmaps?watch=true&labelSelector=team`);
    await until(() => events.length > 0, 'a');
    assert.deepEqual(
      events.map(({ type, object }) => `${type} ${object.metadata.name}`),
      ['ADDED a'],
    );
  },

  'a pod that is deleted is MODIFIED with a deletionTimestamp before it is DELETED': async (at) => {
    await readySet(at, 'replicasets', 1);
    const list = await at.done('GET', `${at.core}/pods`);
    const name = list.items[0]?.metadata.name;
    const { events } = await at.watch(`${at.core}/pods?watch=true&resourceVersion=${list.metadata.resourceVersion}`);
    await at.done('DELETE', `${at.core}/pods/${name}`);
    const own = () => events.filter(({ object }) => object.metadata.name === name);
    await until(() => own().some(({ type }) => type === 'DELETED'), 'its end');
    assert.ok(own().some(({ type, object }) => type === 'MODIFIED' && object.metadata.deletionTimestamp));
    assert.equal(own().at(-1)?.type, 'DELETED');
  },
};

async function versionNow(at: Place): Promise<string> {
  return (await at.done('GET', `${at.core}/configmaps`)).metadata.resourceVersion;
}

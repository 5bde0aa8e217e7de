import assert from 'node:assert/strict';
import { test } from 'node:test';
import { core, merge, testCluster, until, type WatchEvent } from './client.ts';

const path = `${core}/configmaps`;
const configMap = (name: string, labels: Record<string, string> = {}) => ({ metadata: { name, labels } });
const told = (events: WatchEvent[]) => events.map(({ type, object }) => `${type} ${object.metadata.name}`);

test('a watch tells what is there, then each change', async (t) => {
  const { call, watch } = await testCluster(t);
  await call('POST', path, configMap('a'));
  const { events } = await watch(`${path}?watch=true`);
  await until('the first event', () => events.length === 1);
  await call('PATCH', `${path}/a`, { data: { k: '1' } }, merge);
  await call('POST', path, configMap('b'));
  await call('DELETE', `${path}/a`);
  await until('all events', () => events.length === 4);
  assert.deepEqual(told(events), ['ADDED a', 'MODIFIED a', 'ADDED b', 'DELETED a']);
  const versions = events.map(({ object }) => Number(object.metadata.resourceVersion));
  assert.deepEqual(
    versions,
    [...versions].sort((a, b) => a - b),
  );
});

test('a watch from a version tells only what came after it', async (t) => {
  const { call, watch } = await testCluster(t);
  await call('POST', path, configMap('a'));
  const { body } = await call('GET', path);
  await call('POST', path, configMap('b'));
  const { events } = await watch(`${path}?watch=true&resourceVersion=${body.metadata.resourceVersion}`);
  await until('the event', () => events.length > 0);
  assert.deepEqual(told(events), ['ADDED b']);
});

test('an object that comes to match a selector is added, one that no longer does is deleted', async (t) => {
  const { call, watch } = await testCluster(t);
  const { events } = await watch(`${path}?watch=true&labelSelector=ours%3Dtrue`);
  await call('POST', path, configMap('a'));
  await call('PATCH', `${path}/a`, { metadata: { labels: { ours: 'true' } } }, merge);
  await call('PATCH', `${path}/a`, { data: { k: '1' } }, merge);
  await call('PATCH', `${path}/a`, { metadata: { labels: { ours: null } } }, merge);
  await until('three events', () => events.length === 3);
  assert.deepEqual(told(events), ['ADDED a', 'MODIFIED a', 'DELETED a']);
  assert.deepEqual(events[2]!.object.metadata.labels, { ours: 'true' });
});

test('a watch ends after its time, with a bookmark where they are wanted', async (t) => {
  const { watch } = await testCluster(t);
  const { events, ended } = await watch(`${path}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true`);
  await ended;
  assert.equal(events.at(-1)!.type, 'BOOKMARK');
  assert.match(events.at(-1)!.object.metadata.resourceVersion, /^\d+$/);
});

test('the end of the initial events is marked on request', async (t) => {
  const { call, watch } = await testCluster(t);
  await call('POST', path, configMap('a'));
  const query = 'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
  const { events } = await watch(`${path}?${query}`);
  await until('both events', () => events.length === 2);
  assert.equal(events[1]!.object.metadata.annotations?.['k8s.io/initial-events-end'], 'true');
});

import assert from 'node:assert/strict';
import { service } from '../../sandbox/client.ts';
import { until } from '../../support/until.ts';
import { type Body, type Cases, merge, type Place } from '../place.ts';

/** Lists as the driver reads them (drivers/kube.ts, list), and what resourceVersions mean. */
export const readCases: Cases = {
  'a list comes in pages of the size asked for, all of one resourceVersion': async (at) => {
    await configMaps(at, ['a', 'b', 'c', 'd', 'e']);
    const first = await at.done('GET', `${maps(at)}&limit=2`);
    assert.deepEqual(namesOf(first), ['a', 'b']);
    assert.ok(first.metadata.continue);
    const second = await at.done('GET', `${maps(at)}&limit=2&continue=${next(first)}`);
    const third = await at.done('GET', `${maps(at)}&limit=2&continue=${next(second)}`);
    assert.deepEqual([...namesOf(second), ...namesOf(third)], ['c', 'd', 'e']);
    assert.equal(third.metadata.continue ?? '', '');
    assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
    assert.equal(third.metadata.resourceVersion, first.metadata.resourceVersion);
  },

  'later pages show the cluster as it was at the first, so that a watch from there misses nothing': async (at) => {
    await configMaps(at, ['b', 'c', 'd', 'e']);
    const first = await at.done('GET', `${maps(at)}&limit=2`);
    await configMaps(at, ['a', 'f']);
    await at.done('PATCH', `${at.core}/configmaps/d`, { data: { changed: 'yes' } }, merge);
    await at.done('DELETE', `${at.core}/configmaps/e`);
    const second = await at.done('GET', `${maps(at)}&limit=2&continue=${next(first)}`);
    assert.deepEqual([...namesOf(first), ...namesOf(second)], ['b', 'c', 'd', 'e']);
    assert.equal(second.items[0]?.data, undefined);
    assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
    const query = `labelSelector=team&watch=1&resourceVersion=${second.metadata.resourceVersion}`;
    const { events } = await at.watch(`${at.core}/configmaps?${query}`);
    await at.done('POST', `${at.core}/configmaps`, labelled('last'));
    await until(() => events.some(({ object }) => object.metadata.name === 'last'), 'the watch is up to date');
    assert.deepEqual(
      events.map(({ type, object }) => `${type} ${object.metadata.name}`),
      ['ADDED a', 'ADDED f', 'MODIFIED d', 'DELETED e', 'ADDED last'],
    );
  },

  'a page whose version is forgotten answers 410 Expired': async (at) => {
    await configMaps(at, ['a', 'b', 'c']);
    const first = await at.done('GET', `${maps(at)}&limit=2`);
    const token = JSON.parse(Buffer.from(first.metadata.continue ?? '', 'base64').toString()) as object;
    const old = Buffer.from(JSON.stringify({ ...token, rv: 1 })).toString('base64url');
    const { code, body } = await at.call('GET', `${maps(at)}&limit=2&continue=${old}`);
    assert.deepEqual([code, body.reason], [410, 'Expired']);
  },

  'a continue token that is none answers 400': async (at) => {
    const { code, body } = await at.call('GET', `${maps(at)}&limit=2&continue=nonsense`);
    assert.deepEqual([code, body.reason], [400, 'BadRequest']);
    assert.match(body.message, /continue key is not valid/);
  },

  'items of a built-in list say no kind, those of custom resources do': async (at) => {
    await configMaps(at, ['a']);
    const built = await at.done('GET', maps(at));
    assert.deepEqual([built.kind, built.apiVersion, built.items[0]?.kind], ['ConfigMapList', 'v1', undefined]);
    await at.done('POST', at.splits, {
      apiVersion: 'split.smi-spec.io/v1alpha2',
      kind: 'TrafficSplit',
      metadata: { name: 'web' },
      spec: { service: 'web', backends: [] },
    });
    const custom = await at.done('GET', at.splits);
    assert.deepEqual([custom.kind, custom.items[0]?.kind], ['TrafficSplitList', 'TrafficSplit']);
    assert.equal(custom.items[0]?.apiVersion, 'split.smi-spec.io/v1alpha2');
  },

  'label selectors choose by existence, absence, equality and sets': async (at) => {
    const some: [string, Record<string, string>][] = [
      ['a', { team: 'x', 'cdaas/deployment': 'd1' }],
      ['b', { team: 'y' }],
      ['c', { team: 'z', 'cdaas/deployment': 'd2' }],
    ];
    for (const [name, labels] of some) await at.done('POST', `${at.core}/configmaps`, { metadata: { name, labels } });
    const cases = {
      'cdaas/deployment': ['a', 'c'],
      'team,!cdaas/deployment': ['b'],
      'cdaas/deployment=d1': ['a'],
      'team==y': ['b'],
      'team,team!=y': ['a', 'c'],
      'team in (x, y)': ['a', 'b'],
      'team,team notin (x,y)': ['c'],
    };
    for (const [selector, expected] of Object.entries(cases)) {
      const path = `${at.core}/configmaps?labelSelector=${encodeURIComponent(selector)}`;
      assert.deepEqual(namesOf(await at.done('GET', path)), expected, selector);
    }
    const bad = await at.call('GET', `${at.core}/configmaps?labelSelector=${encodeURIComponent('a in x')}`);
    assert.deepEqual([bad.code, bad.body.reason], [400, 'BadRequest']);
  },

  'field selectors choose by name; one that the kind does not know answers 400': async (at) => {
    await configMaps(at, ['a', 'b']);
    const one = await at.done('GET', `${at.core}/configmaps?fieldSelector=metadata.name%3Db`);
    assert.deepEqual(namesOf(one), ['b']);
    const { code, body } = await at.call('GET', `${at.core}/configmaps?fieldSelector=data.x%3Db`);
    assert.deepEqual([code, body.reason], [400, 'BadRequest']);
    assert.match(body.message, /data\.x/);
  },

  'a write is seen by every read after it, and one counter numbers the changes of all kinds': async (at) => {
    let last = 0;
    for (let round = 0; round < 3; round++) {
      const { metadata } = await at.done('POST', `${at.core}/configmaps`, labelled(`m${round}`));
      const other = await at.done('POST', `${at.core}/services`, service(`s${round}`, { app: 'web' }));
      assert.ok(Number(metadata.resourceVersion) > last);
      assert.ok(Number(other.metadata.resourceVersion) > Number(metadata.resourceVersion));
      last = Number(other.metadata.resourceVersion);
      const list = await at.done('GET', maps(at));
      assert.equal(list.items.length, round + 1);
      assert.ok(Number(list.metadata.resourceVersion) >= last, 'a list is as new as the writes before it');
    }
  },

  'an empty list says its resourceVersion too': async (at) => {
    const { items, metadata } = await at.done('GET', at.splits);
    assert.deepEqual(items, []);
    assert.match(metadata.resourceVersion, /^\d+$/);
  },

  'a list over all namespaces finds the objects of each': async (at) => {
    await configMaps(at, ['a']);
    const { items } = await at.done('GET', '/api/v1/configmaps?labelSelector=team');
    assert.ok(items.some(({ metadata }) => metadata.namespace === at.namespace));
  },

  'a list of a namespace that does not exist is empty': async (at) => {
    const { items } = await at.done('GET', '/api/v1/namespaces/conf-nowhere/services');
    assert.deepEqual(items, []);
  },

  'the namespace kube-system tells clusters apart by its uid': async (at) => {
    const { metadata } = await at.done('GET', '/api/v1/namespaces/kube-system');
    assert.match(metadata.uid, /^[0-9a-f-]{36}$/);
  },
};

export function labelled(name: string) {
  return { metadata: { name, labels: { team: 'x' } } };
}

async function configMaps(at: Place, names: string[]): Promise<void> {
  for (const name of names) await at.done('POST', `${at.core}/configmaps`, labelled(name));
}

/** Only the case's own: a real cluster puts a ConfigMap of its own into every namespace. */
function maps(at: Place): string {
  return `${at.core}/configmaps?labelSelector=team`;
}

function namesOf({ items }: Body): string[] {
  return items.map(({ metadata }) => metadata.name);
}

function next({ metadata }: Body): string {
  return encodeURIComponent(metadata.continue ?? '');
}

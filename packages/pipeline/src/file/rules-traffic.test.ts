import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcome, shopFile, webManifests } from './file-fixtures.ts';

/**
 * The rules about traffic, as in rules.test.ts. Every rule twice: broken, where its code must appear at its
 * path and nothing else does, and kept, where nothing does. The
 * kept form is as near to the broken one as can be, so that a rule that is too wide or missing fails here.
 */
type Patch = Record<string, unknown>;
type Rule = { rule: string; broken: Patch | string; found: string[]; kept?: Patch | string };

const smi = (...entries: Patch[]): Patch => ({ trafficManagement: [{ smi: entries }] });
const manifest = (yaml: string): Patch => ({ files: { 'k8s/app.yaml': [yaml] } });
const changed = (from: string | RegExp, to: string): Patch => manifest(webManifests.replace(from, to));
const split = (metadata: string, service: string): Patch =>
  manifest(
    `${webManifests}---\n{apiVersion: split.smi-spec.io/v1alpha2, kind: TrafficSplit, metadata: ${metadata}, spec: {service: ${service}}}`,
  );
const canaryService = '{apiVersion: v1, kind: Service, metadata: {name: web-canary}, spec: {selector: {app: web}}}';
const profile = (name: string, overrides: string): Patch =>
  manifest(
    `${webManifests}---\n{apiVersion: linkerd.io/v1alpha2, kind: ServiceProfile, metadata: {name: ${name}}, spec: {dstOverrides: ${overrides}}}`,
  );
const apiManifests = webManifests.replaceAll('web', 'api');
const bothManifests = `${webManifests}---\n${apiManifests}`;
const inFile = '/files/k8s~1app.yaml/0';
const blue = (strategy: unknown, ...traffic: Patch[]): Patch => ({
  targets: { blue: { account: 'east', strategy: 'swap' } },
  strategies: { swap: strategy },
  targetFilters: [{ includeTarget: 'qa' }],
  trafficManagement: [{ targets: ['qa'], smi: [{ rootServiceName: 'web' }] }, ...traffic],
});
const smiInItems = (...counts: number[]): Patch => ({
  trafficManagement: counts.map((count, item) => ({
    smi: Array.from({ length: count }, (_, index) => ({ rootServiceName: `root${item}-${index}` })),
  })),
});
const kubernetes = (...entries: Patch[]): Patch => ({ targets: ['blue'], kubernetes: entries });

const rules: Rule[] = [
  {
    rule: 'a split has a valid name',
    broken: smi({ rootServiceName: 'web', trafficSplitName: 'Web Split' }),
    found: ['field.type /trafficManagement/0/smi/0/trafficSplitName'],
    kept: smi({ rootServiceName: 'web', trafficSplitName: 'web.split' }),
  },
  {
    rule: 'a root is a plain name',
    broken: smi({ rootServiceName: 'web.shop.svc' }),
    found: ['field.type /trafficManagement/0/smi/0/rootServiceName'],
  },
  {
    rule: 'root and canary differ',
    broken: smi({ rootServiceName: 'web', canaryServiceName: 'web' }),
    found: ['traffic.conflict /trafficManagement/0/smi/0/canaryServiceName'],
    kept: smi({ rootServiceName: 'web', canaryServiceName: 'next' }),
  },
  {
    rule: 'the canary name has at most 63 characters',
    broken: smi({ rootServiceName: 'w'.repeat(57) }),
    found: ['field.range /trafficManagement/0/smi/0/rootServiceName'],
    kept: smi({ rootServiceName: 'w'.repeat(56) }),
  },
  {
    rule: 'a long root may name its canary',
    broken: smi({ rootServiceName: 'w'.repeat(64) }),
    found: ['field.type /trafficManagement/0/smi/0/rootServiceName'],
    kept: smi({ rootServiceName: 'w'.repeat(63), canaryServiceName: 'next' }),
  },
  {
    rule: 'the root selects the pods',
    broken: changed('  selector:\n    app: web\n  ports', '  selector:\n    app: shop\n  ports'),
    found: ['traffic.conflict /trafficManagement/0/smi/0/rootServiceName'],
  },
  {
    rule: 'the root has a selector',
    broken: changed('  selector:\n    app: web\n  ports', '  ports'),
    found: ['traffic.conflict /trafficManagement/0/smi/0/rootServiceName'],
  },
  {
    rule: 'two items do not give one kind for one target',
    broken: { trafficManagement: [1, 2].map((n) => ({ smi: [{ rootServiceName: `web${n}` }] })) },
    found: ['traffic.conflict /trafficManagement/1/smi'],
    kept: {
      trafficManagement: [
        { targets: ['qa'], smi: [{ rootServiceName: 'web' }] },
        { targets: [], smi: [] },
      ],
    },
  },
  {
    rule: 'two entries do not share a split',
    broken: smi({ rootServiceName: 'a' }, { rootServiceName: 'b', trafficSplitName: 'a' }),
    found: ['traffic.conflict /trafficManagement/0/smi/1'],
    kept: smi({ rootServiceName: 'a' }, { rootServiceName: 'b', trafficSplitName: 'c' }),
  },
  {
    rule: 'two entries do not share a root',
    broken: smi(
      { rootServiceName: 'a' },
      { rootServiceName: 'a', canaryServiceName: 'next', trafficSplitName: 'other' },
    ),
    found: ['traffic.conflict /trafficManagement/0/smi/1'],
  },
  {
    rule: 'two entries do not share a canary Service',
    broken: smi(
      { rootServiceName: 'a', canaryServiceName: 'next' },
      { rootServiceName: 'b', canaryServiceName: 'next' },
    ),
    found: ['traffic.conflict /trafficManagement/0/smi/1'],
    kept: smi({ rootServiceName: 'a', canaryServiceName: 'next' }, { rootServiceName: 'b' }),
  },
  {
    rule: 'the root of one entry is not the canary of another',
    broken: smi({ rootServiceName: 'a' }, { rootServiceName: 'a-canary' }),
    found: ['traffic.conflict /trafficManagement/0/smi/1'],
    kept: smi({ rootServiceName: 'a' }, { rootServiceName: 'b-canary' }),
  },
  {
    rule: 'a target has at most 50 entries',
    broken: smiInItems(26, 25),
    found: ['traffic.conflict /trafficManagement/1/smi', 'field.range /trafficManagement/1/smi/24'],
  },
  {
    rule: 'every Deployment has a root that leads to it',
    broken: { ...manifest(bothManifests), ...smi({ rootServiceName: 'web' }) },
    found: [`step.unsupported ${inFile}`],
    kept: { ...manifest(bothManifests), ...smi({ rootServiceName: 'web' }, { rootServiceName: 'api' }) },
  },
  {
    rule: 'one of them may be in the cluster',
    broken: {
      ...manifest(`${bothManifests}---\n${webManifests.replaceAll('web', 'shop')}`),
      ...smi({ rootServiceName: 'web' }, { rootServiceName: 'front' }),
    },
    found: [`step.unsupported ${inFile}`],
    kept: { ...manifest(bothManifests), ...smi({ rootServiceName: 'web' }, { rootServiceName: 'front' }) },
  },
  {
    rule: 'a root leads to one Deployment',
    broken: {
      ...manifest(
        bothManifests
          .replaceAll('        app: api', '        app: api\n        tier: shop')
          .replaceAll('        app: web', '        app: web\n        tier: shop')
          .replace('  selector:\n    app: api', '  selector:\n    tier: shop'),
      ),
      ...smi({ rootServiceName: 'web' }, { rootServiceName: 'api' }),
    },
    found: ['traffic.conflict /trafficManagement/0/smi/1/rootServiceName'],
  },
  {
    rule: 'a canary Service leads where its root does',
    broken: {
      ...manifest(`${bothManifests}---\n${canaryService.replace('web-canary', 'next')}`),
      ...smi({ rootServiceName: 'web' }, { rootServiceName: 'api', canaryServiceName: 'next' }),
    },
    found: ['traffic.conflict /trafficManagement/0/smi/1/canaryServiceName'],
    kept: {
      ...manifest(`${bothManifests}---\n${canaryService.replace('web-canary', 'next')}`),
      ...smi({ rootServiceName: 'web', canaryServiceName: 'next' }, { rootServiceName: 'api' }),
    },
  },
  {
    rule: 'two items do not give one Deployment of several a root each',
    broken: {
      ...manifest(`${bothManifests}---\n${canaryService.replace('web-canary', 'admin')}`),
      trafficManagement: ['web', 'api', 'admin'].map((rootServiceName) => ({ smi: [{ rootServiceName }] })),
    },
    found: ['traffic.conflict /trafficManagement/2/smi'],
    kept: {
      ...manifest(bothManifests),
      trafficManagement: ['web', 'api'].map((rootServiceName) => ({ smi: [{ rootServiceName }] })),
    },
  },
  {
    rule: 'traffic names known targets',
    broken: { trafficManagement: [{ targets: ['qa', 'qb'], smi: [{ rootServiceName: 'web' }] }] },
    found: ['ref.target /trafficManagement/0/targets/1'],
  },
  {
    rule: 'alias belongs to lambda',
    broken: { trafficManagement: [{ smi: [{ rootServiceName: 'web' }], alias: [] }] },
    found: ['field.unknown /trafficManagement/0/alias'],
  },
  {
    rule: 'istio needs a VirtualService',
    broken: {
      trafficManagement: [
        { targets: ['qa'], smi: [{ rootServiceName: 'web' }] },
        { targets: ['qb'], istio: [{}] },
      ],
      targets: { qb: { account: 'east', strategy: 'slow' } },
      targetFilters: [{ includeTarget: 'qa' }],
    },
    found: ['field.required /trafficManagement/1/istio/0/virtualService'],
  },
  {
    rule: "the run's TrafficSplit is not in the manifests",
    broken: split('{name: web}', 'other'),
    found: [`traffic.conflict ${inFile}`],
    kept: split('{name: other}', 'other'),
  },
  {
    rule: 'a TrafficSplit of the run may have another name',
    broken: { ...split('{name: odd}', 'other'), ...smi({ rootServiceName: 'web', trafficSplitName: 'odd' }) },
    found: [`traffic.conflict ${inFile}`],
    kept: { ...split('{name: web}', 'other'), ...smi({ rootServiceName: 'web', trafficSplitName: 'odd' }) },
  },
  {
    rule: 'no TrafficSplit of the manifests splits the root',
    broken: split('{name: other}', 'web'),
    found: [`traffic.conflict ${inFile}`],
    kept: { ...split('{name: other}', 'web'), ...smi({ rootServiceName: 'shop' }) },
  },
  {
    rule: 'no TrafficSplit of the manifests splits the root by its long name',
    broken: split('{name: other}', 'web.shop-qa'),
    found: [`traffic.conflict ${inFile}`],
  },
  {
    rule: 'the canary Service that the run creates is not in the manifests',
    broken: manifest(`${webManifests}---\n${canaryService}`),
    found: [`traffic.conflict ${inFile}`],
    kept: {
      ...manifest(`${webManifests}---\n${canaryService}`),
      ...smi({ rootServiceName: 'web', canaryServiceName: 'web-canary' }),
    },
  },
  {
    rule: 'a ServiceProfile of the root does not lead traffic elsewhere',
    broken: profile('web.shop-qa.svc.cluster.local', '[{authority: a, weight: 1}]'),
    found: [`traffic.conflict ${inFile}`],
    kept: profile('web.shop-qa.svc.cluster.local', '[]'),
  },
  {
    rule: 'a ServiceProfile of another Service may',
    broken: profile('web.shop-qa.svc.cluster.local', '[{authority: a, weight: 1}]'),
    found: [`traffic.conflict ${inFile}`],
    kept: profile('shop.shop-qa.svc.cluster.local', '[{authority: a, weight: 1}]'),
  },
  // Blue/green
  {
    rule: 'active and preview differ in the strategy',
    broken: blue({ blueGreen: { activeService: 'a', previewService: 'a' } }),
    found: ['service.same /strategies/swap/blueGreen/previewService'],
  },
  {
    rule: 'active and preview differ in traffic',
    broken: blue({ blueGreen: {} }, kubernetes({ activeService: 'a', previewService: 'a' })),
    found: ['service.same /trafficManagement/1/kubernetes/0/previewService'],
    kept: blue({ blueGreen: {} }, kubernetes({ activeService: 'a', previewService: 'b' })),
  },
  {
    rule: 'active and preview stand in one entry',
    broken: blue({ blueGreen: {} }, kubernetes({ activeService: 'a' }, { previewService: 'b' })),
    found: ['field.required /trafficManagement/1/kubernetes/1/activeService'],
  },
  {
    rule: 'strategy and traffic agree',
    broken: blue({ blueGreen: { activeService: 'a' } }, kubernetes({ activeService: 'b' })),
    found: ['traffic.conflict /strategies/swap/blueGreen/activeService'],
  },
  {
    rule: 'setWeight is no blue/green step',
    broken: blue(
      { blueGreen: { redirectTrafficAfter: [{ setWeight: { weight: 1 } }] } },
      kubernetes({ activeService: 'a' }),
    ),
    found: ['field.unknown /strategies/swap/blueGreen/redirectTrafficAfter/0/setWeight'],
    kept: blue(
      { blueGreen: { shutDownOldVersionAfter: [{ exposeServices: { services: ['a'] } }] } },
      kubernetes({ activeService: 'a' }),
    ),
  },
];

const fileOf = (source: Patch | string): unknown => (typeof source === 'string' ? source : shopFile(source));
const refusals = (source: Patch | string): string[] =>
  outcome(fileOf(source)).filter((line) => !line.startsWith('WARN '));

for (const { rule, broken, found, kept } of rules) {
  test(`the rule "${rule}" is told where it is broken and only there`, () => {
    assert.deepEqual(refusals(broken), found);
    if (kept !== undefined) assert.deepEqual(refusals(kept), []);
  });
}

test('a root Service that is nearly one of the manifests is asked about, another may be in the cluster', () => {
  const said = (name: string) => outcome(shopFile(smi({ rootServiceName: name })));
  assert.deepEqual(said('wbe'), [
    "WARN trafficManagement[0].smi[0].rootServiceName: Service 'wbe' is not in the manifests; did you mean 'web'?",
  ]);
  assert.deepEqual(said('shop'), []);
  assert.deepEqual(said('web-api'), []);
});

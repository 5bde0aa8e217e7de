import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubernetesObject } from '../kubernetes.ts';
import { check, shopFile, violationsOf, webManifests } from './file-fixtures.ts';

/** The objects besides the Deployment of a file whose manifests are these texts, target namespace as given. */
function objectsOf(texts: string[], namespace: string | null = 'shop-qa'): KubernetesObject[] {
  const result = check(shopFile({ targets: { qa: { namespace } }, files: { 'k8s/app.yaml': texts } }));
  assert.ok('plans' in result, JSON.stringify(result));
  return result.plans[0]?.objects ?? [];
}

const written = (text: string, namespace?: string | null): string[] =>
  objectsOf([webManifests, text], namespace).map(
    ({ kind, metadata }) => `${kind} ${metadata.namespace ?? '-'}/${metadata.name}`,
  );

test('Namespaces come first, then CRDs, then the rest as written', () => {
  const text = `
{apiVersion: x.example/v1, kind: Thing, metadata: {name: a}}
---
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: things.x.example}, spec: {group: x.example, scope: Namespaced, names: {kind: Thing}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop-qa}}`;
  assert.deepEqual(written(text), [
    'Namespace -/shop-qa',
    'CustomResourceDefinition -/things.x.example',
    'Service shop-qa/web',
    'Thing shop-qa/a',
  ]);
});

test("the target's namespace replaces that of namespaced objects only, and of nothing inside a spec", () => {
  const text = `
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: 'shop:read', namespace: stray}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b, namespace: other}, subjects: [{kind: ServiceAccount, name: a, namespace: other}]}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast}}`;
  assert.deepEqual(written(text), [
    'Service shop-qa/web',
    'ClusterRole -/shop:read',
    'RoleBinding shop-qa/b',
    'StorageClass -/fast',
  ]);
  const binding = objectsOf([webManifests, text]).find(({ kind }) => kind === 'RoleBinding');
  assert.deepEqual(binding?.subjects, [{ kind: 'ServiceAccount', name: 'a', namespace: 'other' }]);
});

test('a custom kind is cluster-scoped if the manifests define it so', () => {
  const text = `
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: things.x.example}, spec: {group: x.example, scope: Cluster, names: {kind: Thing}}}
---
{apiVersion: x.example/v1, kind: Thing, metadata: {name: a}}`;
  assert.equal(written(text).at(-1), 'Thing -/a');
});

test("without a namespace of the target the manifest's own holds, else default", () => {
  const text = '{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: own}}';
  assert.deepEqual(written(text, null), ['Service default/web', 'ConfigMap own/a']);
});

test('lists are opened, whatever their kind', () => {
  const text = `
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
  - apiVersion: v1
    kind: ConfigMapList
    items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]`;
  assert.deepEqual(written(text), ['Service shop-qa/web', 'ConfigMap shop-qa/a', 'ConfigMap shop-qa/b']);
});

test('manifests are read as Kubernetes reads them: octal modes, yes for true, base-60 and dates as texts', () => {
  const text =
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nspec: {mode: 0644, on: yes, port: 22:22, day: 2024-01-02}';
  const config = objectsOf([webManifests, text]).find(({ kind }) => kind === 'ConfigMap');
  assert.deepEqual(config?.spec, { mode: 420, on: true, port: '22:22', day: '2024-01-02' });
});

test('what only a cluster may set is left out of the manifests with a warning', () => {
  const text =
    '{apiVersion: v1, kind: ConfigMap, metadata: {name: a, uid: x, resourceVersion: "7", creationTimestamp: null}, status: {}}';
  const result = check(shopFile({ files: { 'k8s/app.yaml': [webManifests, text] } }));
  assert.ok('plans' in result);
  assert.deepEqual(result.plans[0]?.objects[1], {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'a', namespace: 'shop-qa' },
  });
  assert.match(result.warnings[0] ?? '', /uid, resourceVersion, status belong to the cluster/);
});

test('a mistake in a manifest is told with path, document, and line and column in that text', () => {
  const [found] = violationsOf(
    shopFile({ files: { 'k8s/app.yaml': ['# first\n', webManifests.replace('replicas: 3', 'replicas: -1')] } }),
  );
  assert.equal(
    found?.message,
    "k8s/app.yaml (file 2), document 1, line 6, Deployment 'web': spec.replicas must be a whole number, 0 or more",
  );
  assert.deepEqual([found?.path, found?.line, found?.column], ['/files/k8s~1app.yaml/1', 6, 13]);
  const [syntax] = violationsOf(shopFile({ files: { 'k8s/app.yaml': ['a: 1\n---\nb: "x'] } }));
  assert.match(syntax?.message ?? '', /^k8s\/app.yaml, document 2, line 3: /);
});

test('a path that two entries name is read once, and its mistakes told once', () => {
  const file = shopFile({
    manifests: [
      { path: 'k8s/app.yaml', targets: ['qa'] },
      { path: 'k8s/app.yaml', targets: ['b'] },
    ],
    targets: { b: { account: 'east', namespace: 'b', strategy: 'slow' } },
    targetFilters: [{ includeTarget: 'qa' }],
    files: { 'k8s/app.yaml': [webManifests.replace('replicas: 3', 'replicas: -1')] },
  });
  assert.equal(violationsOf(file).length, 1);
});

test('files that no manifest names, and folders without manifests, are warnings', () => {
  const result = check(
    shopFile({ manifests: [{ path: 'k8s/app.yaml' }, { path: 'empty' }], files: { empty: [], 'extra.yaml': [''] } }),
  );
  assert.ok('plans' in result);
  assert.deepEqual(result.warnings, [
    "manifest 'empty' holds no .yaml or .yml file",
    "files['extra.yaml'] is named by no manifest and is ignored",
  ]);
});

const secret = 'hunter2-s3cr3t';
const secretManifests = [
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: *${secret}}`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: ${secret}, ${secret}, ${secret}}`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password: "${secret}\\x"`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password: "${secret}" ${secret}`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password: @${secret}`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password: !${secret} x`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password ${secret}\n  other: x`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password: |${secret}\n  x`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: A_B}\nstringData: {password: ${secret}}\ndata: ${secret}`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: [${secret}]}\nstringData: {password: ${secret}}`,
  `kind: Secret\nmetadata: {name: a}\nstringData: {password: ${secret}}`,
  `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: ${secret}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: ${secret}}`,
];

for (const [index, text] of secretManifests.entries()) {
  test(`no message shows the value of a broken Secret (${index + 1})`, () => {
    for (const manifests of [
      { files: { 'k8s/app.yaml': [webManifests, text] } },
      { manifests: [{ inline: `${webManifests}---\n${text}` }], files: null },
    ]) {
      const found = violationsOf(shopFile(manifests));
      assert.notEqual(found.length, 0);
      assert.ok(!JSON.stringify(found).includes('s3cr3t'), JSON.stringify(found));
    }
  });
}

test('fields of a Deployment that mean nothing here are told, and a misspelt one is told with the right word', () => {
  const more =
    'replicas: 3\n  strategy: {type: RollingUpdate}\n  revisionHistoryLimit: 3\n  progressDeadlineSeconds: 60\n  paused: true';
  const result = check(shopFile({ files: { 'k8s/app.yaml': [webManifests.replace('replicas: 3', more)] } }));
  assert.ok('plans' in result);
  assert.deepEqual(
    result.warnings.map((warning) => warning.split("'web': ")[1]),
    [
      'spec.strategy has no meaning here: the strategy of the target says how',
      'spec.progressDeadlineSeconds has no meaning here: deploymentConfig.timeout says how long pods may take to become ready',
      'spec.revisionHistoryLimit has no meaning here: old ReplicaSets are removed at the end of a deployment',
      'spec.paused is ignored',
    ],
  );
  const [found] = violationsOf(
    shopFile({ files: { 'k8s/app.yaml': [webManifests.replace('replicas: 3', 'replica: 3')] } }),
  );
  assert.match(found?.message ?? '', /spec\.replica is not a field of a Deployment$/);
  assert.deepEqual([found?.hint, found?.line, found?.column], ["did you mean 'replicas'?", 6, 12]);
});

test('an object that conflicts with the run is told with both names', () => {
  const text =
    '{apiVersion: split.smi-spec.io/v1alpha2, kind: TrafficSplit, metadata: {name: mine}, spec: {service: web}}';
  const [found] = violationsOf(shopFile({ files: { 'k8s/app.yaml': [webManifests, text] } }));
  assert.match(
    found?.message ?? '',
    /TrafficSplit 'mine': it splits Service 'web' \(trafficManagement\[0\]\.smi\[0\]\)/,
  );
});

test('a mistake in an inline manifest is told with its place in the deployment file where it is a literal block', () => {
  const broken = webManifests.replace('replicas: 3', 'replicas: -1');
  const indented = (by: string) => broken.replaceAll(/^(?=.)/gm, by);
  const around = (inline: string) => `application: shop
targets: {qa: {account: east, namespace: shop-qa, strategy: slow}}
strategies: {slow: {canary: {steps: [{setWeight: {weight: 20}}]}}}
trafficManagement: [{smi: [{rootServiceName: web}]}]
manifests:
  - inline: ${inline}`;
  for (const [inline, place] of [
    [`|\n${indented('      ')}`, [12, 19]],
    [`|-  # said\n\n\n${indented('     ')}`, [14, 18]],
    [`|2\n${indented('      ')}`, [12, 19]],
    [`&x\n      |\n${indented('      ')}`, [13, 19]],
    [`|\r\n${indented('      ').replaceAll('\n', '\r\n')}`, [12, 19]],
    [`>\n${indented('      ')}`, [undefined, undefined]],
    [JSON.stringify(broken), [undefined, undefined]],
  ] as const) {
    const text = around(inline);
    const [found] = violationsOf(text);
    assert.deepEqual([found?.line, found?.column], place, inline);
    if (inline.startsWith('>')) continue;
    assert.match(found?.message ?? '', /line \d+ of the manifest, Deployment 'web': spec\.replicas/);
    if (found?.line !== undefined && found.column !== undefined)
      assert.match(text.split('\n')[found.line - 1]?.slice(found.column - 1) ?? '', /^-1/);
  }
  const syntax = violationsOf(around('|\n      a: 1\n      ---\n      b: @x'))[0];
  assert.deepEqual([syntax?.line, syntax?.column], [9, 10]);
  const inJson = violationsOf(shopFile({ manifests: [{ inline: broken }], files: null }))[0];
  assert.deepEqual([inJson?.path, inJson?.line], ['/manifests/0/inline', undefined]);
  assert.match(inJson?.message ?? '', /^manifests\[0\]\.inline, document 1, line 6 of the manifest/);
});

test('mistakes in one manifest come in the order of its lines, wherever it stands', () => {
  const broken = webManifests.replace('replicas: 3', 'replica: 3').replace('- name: web\n', '- nam: web\n');
  for (const file of [{ manifests: [{ inline: broken }], files: null }, { files: { 'k8s/app.yaml': [broken] } }]) {
    assert.deepEqual(
      violationsOf(shopFile(file)).map(({ message }) => / line (\d+)/.exec(message)?.[1]),
      ['6', '16'],
    );
  }
});

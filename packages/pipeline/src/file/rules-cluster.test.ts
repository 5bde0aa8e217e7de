import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcome, shopFile, violationsOf, webManifests } from './file-fixtures.ts';

/**
 * The rules about manifests, as in rules.test.ts. Every rule twice: broken, where its code must appear at its
 * path and nothing else does, and kept, where nothing does. The
 * kept form is as near to the broken one as can be, so that a rule that is too wide or missing fails here.
 */
type Patch = Record<string, unknown>;
type Rule = { rule: string; broken: Patch | string; found: string[]; kept?: Patch | string };

const smi = (...entries: Patch[]): Patch => ({ trafficManagement: [{ smi: entries }] });
const manifest = (yaml: string): Patch => ({ files: { 'k8s/app.yaml': [yaml] } });
const changed = (from: string | RegExp, to: string): Patch => manifest(webManifests.replace(from, to));
const apiManifests = webManifests.replaceAll('web', 'api');
const inFile = '/files/k8s~1app.yaml/0';

const rules: Rule[] = [
  // Manifests
  {
    rule: 'an object has metadata',
    broken: manifest(`${webManifests}---\n{apiVersion: v1, kind: ConfigMap}`),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'a namespace in a manifest is a DNS label',
    broken: manifest(`${webManifests}---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: A_B}}`),
    found: [`manifest.object ${inFile}`],
    kept: manifest(`${webManifests}---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: a-b}}`),
  },
  {
    rule: 'a container has a name',
    broken: changed('        - name: web\n          image', '        - image'),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'a manifest has one source',
    broken: { manifests: [{ path: 'k8s/app.yaml', inline: '' }], files: undefined },
    found: ['manifest.choice /manifests/0'],
  },
  {
    rule: 'a manifest has a source',
    broken: { manifests: [{ targets: ['qa'] }], files: undefined },
    found: ['manifest.choice /manifests/0'],
  },
  {
    rule: 'a manifest names targets or leaves them out',
    broken: { manifests: [{ path: 'k8s/app.yaml', targets: [] }], targets: {} },
    found: ['field.required /manifests/0/targets'],
  },
  {
    rule: 'a manifest names known targets',
    broken: { manifests: [{ path: 'k8s/app.yaml', targets: ['qa', 'qb'] }] },
    found: ['ref.target /manifests/0/targets/1'],
    kept: { manifests: [{ path: 'k8s/app.yaml', targets: ['qa'] }] },
  },
  {
    rule: 'a path has another extension only if it is a folder',
    broken: { manifests: [{ path: 'k8s/app.yaml' }, { path: 'notes.txt' }], files: { 'notes.txt': [] } },
    found: ['manifest.missing /manifests/1/path'],
  },
  {
    rule: 'a URL as path is not built',
    broken: { manifests: [{ path: 'https://h.example/app.yaml' }], files: undefined },
    found: ['step.unsupported /manifests/0/path'],
  },
  { rule: 'a manifest is YAML', broken: manifest('a: [b'), found: [`manifest.object ${inFile}`] },
  {
    rule: 'an object is a mapping',
    broken: manifest(`${webManifests}---\n- a\n`),
    found: [`manifest.object ${inFile}`],
    kept: manifest(`${webManifests}---\n# nothing\n---\n`),
  },
  {
    rule: 'an object has a valid apiVersion',
    broken: changed('apiVersion: v1', 'apiVersion: a/../b'),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'an object has a name',
    broken: changed(
      '  name: web\nspec:\n  selector:\n    app: web\n  ports',
      '  generateName: web-\nspec:\n  selector:\n    app: web\n  ports',
    ),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'a name is one segment of a path',
    broken: manifest(`${webManifests}---\n{apiVersion: x.example/v1, kind: Thing, metadata: {name: a/b}}`),
    found: [`manifest.object ${inFile}`],
    kept: manifest(`${webManifests}---\n{apiVersion: x.example/v1, kind: Thing, metadata: {name: 'a:b'}}`),
  },
  {
    rule: 'a label is a text',
    broken: manifest(
      `${webManifests}---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {version: 1.0}}}`,
    ),
    found: [`manifest.object ${inFile}`],
    kept: manifest(
      `${webManifests}---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {version: '1.0'}}}`,
    ),
  },
  {
    rule: 'Pods are refused',
    broken: manifest(`${webManifests}---\n{apiVersion: v1, kind: Pod, metadata: {name: a}}`),
    found: [`manifest.kind ${inFile}`],
    kept: manifest(`${webManifests}---\n{apiVersion: x.example/v1, kind: Pod, metadata: {name: a}}`),
  },
  {
    rule: 'ReplicaSets are refused',
    broken: manifest(`${webManifests}---\n{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: a}}`),
    found: [`manifest.kind ${inFile}`],
  },
  { rule: 'a Deployment is apps/v1', broken: changed('apps/v1', 'apps/v1beta2'), found: [`manifest.kind ${inFile}`] },
  {
    rule: 'replicas is whole',
    broken: changed('replicas: 3', 'replicas: "3"'),
    found: [`manifest.object ${inFile}`],
    kept: changed('replicas: 3', 'replicas: 0'),
  },
  {
    rule: 'the selector matches the template',
    broken: changed('      labels:\n        app: web', '      labels:\n        app: shop'),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'there are matchLabels',
    broken: changed('    matchLabels:\n      app: web', '    matchExpressions: []'),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'there are containers',
    broken: changed(/containers:[\s\S]*?---/, 'containers: []\n---'),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'a container has a name and an image',
    broken: changed('        - name: web\n          image: registry.example/shop:1', '        - env: []'),
    found: [`manifest.object ${inFile}`, `manifest.object ${inFile}`],
  },
  {
    rule: 'a field of a container is not misspelt',
    broken: changed('          image: registry', '          imgae: registry'),
    found: [`field.unknown ${inFile}`],
    kept: changed('          image: registry', '          imageFromTheFuture: x\n          image: registry'),
  },
  {
    rule: 'an init container is held to the same',
    broken: changed(
      '      containers:',
      '      initContainers: [{name: init, image: a, comand: [b]}]\n      containers:',
    ),
    found: [`field.unknown ${inFile}`],
    kept: changed(
      '      containers:',
      '      initContainers: [{name: init, image: a, command: [b]}]\n      containers:',
    ),
  },
  {
    rule: 'the hash label is ours',
    broken: changed(
      '      labels:\n        app: web',
      '      labels:\n        app: web\n        armory-pod-template-hash: a',
    ),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'fields of a Deployment are known',
    broken: changed('replicas: 3', 'replica: 3'),
    found: [`field.unknown ${inFile}`],
    kept: changed('replicas: 3', 'revisionHistoryLimit: 3\n  progressDeadlineSeconds: 60\n  minReadySeconds: 3'),
  },
  {
    rule: 'rollbackTo is no field of a Deployment',
    broken: changed('replicas: 3', 'rollbackTo: {revision: 2}'),
    found: [`field.unknown ${inFile}`],
  },
  {
    rule: 'a Deployment has only four parts',
    broken: changed('kind: Deployment\n', 'kind: Deployment\nreplicas: 3\n'),
    found: [`field.unknown ${inFile}`],
  },
  {
    rule: 'metadata of a Deployment is known',
    broken: changed('  name: web\n', '  name: web\n  lables: {a: b}\n'),
    found: [`field.unknown ${inFile}`],
    kept: changed('  name: web\n', '  name: web\n  labels: {a: b}\n'),
  },
  {
    rule: 'metadata of pods is known',
    broken: changed('      labels:\n', '      anotations: {a: b}\n      labels:\n'),
    found: [`field.unknown ${inFile}`],
    kept: changed('      labels:\n', '      creationTimestamp: null\n      annotations: {a: b}\n      labels:\n'),
  },
  {
    rule: 'a pod template has only two parts',
    broken: changed('  template:\n', '  template:\n    containers: []\n'),
    found: [`field.unknown ${inFile}`],
  },
  {
    rule: 'a selector is made of known parts',
    broken: changed('    matchLabels:\n', '    matchLabel: {}\n    matchLabels:\n'),
    found: [`field.unknown ${inFile}`],
    kept: changed('    matchLabels:\n', '    matchExpressions: []\n    matchLabels:\n'),
  },
  {
    rule: 'Recreate is not built',
    broken: changed('replicas: 3', 'strategy: {type: Recreate}'),
    found: [`step.unsupported ${inFile}`],
    kept: changed('replicas: 3', 'strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}'),
  },
  {
    rule: 'the strategy of a Deployment has a known type',
    broken: changed('replicas: 3', 'strategy: {type: Canary}'),
    found: [`manifest.object ${inFile}`],
    kept: changed('replicas: 3', 'strategy: {}'),
  },
  {
    rule: 'the strategy of a Deployment has known parts',
    broken: changed('replicas: 3', 'strategy: {typ: Recreate}'),
    found: [`field.unknown ${inFile}`],
  },
  {
    rule: 'minReadySeconds is whole',
    broken: changed('replicas: 3', 'minReadySeconds: 5s'),
    found: [`manifest.object ${inFile}`],
  },
  {
    rule: 'a kind is written as Kubernetes writes it',
    broken: changed('kind: Deployment', 'kind: deployment'),
    found: [`manifest.kind ${inFile}`],
    kept: manifest(`${webManifests}---\n{apiVersion: x.example/v1, kind: deployment, metadata: {name: a}}`),
  },
  {
    rule: 'Pods in small letters are Pods',
    broken: manifest(`${webManifests}---\n{apiVersion: v1, kind: pod, metadata: {name: a}}`),
    found: [`manifest.kind ${inFile}`],
  },
  {
    rule: 'a Deployment is not in the core group',
    broken: changed('apps/v1', 'v1'),
    found: [`manifest.kind ${inFile}`],
  },
  ...(
    [
      ['v1', 'Binding'],
      ['v1', 'List'],
      ['v1', 'ConfigMapList'],
      ['policy/v1', 'Eviction'],
      ['authentication.k8s.io/v1', 'TokenReview'],
      ['authorization.k8s.io/v1', 'SelfSubjectAccessReview'],
    ] as const
  ).map(([apiVersion, kind]) => ({
    rule: `${kind} is no object to deploy`,
    broken: manifest(`${webManifests}---\n{apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: a}}`),
    found: [`manifest.kind ${inFile}`],
    kept: manifest(`${webManifests}---\n{apiVersion: x.example/v1, kind: ${kind}, metadata: {name: a}}`),
  })),
  {
    rule: 'an object appears once',
    broken: manifest(
      `${webManifests}---\n{apiVersion: v1, kind: Service, metadata: {name: web, namespace: elsewhere}}`,
    ),
    found: [`name.duplicate ${inFile}`],
    kept: manifest(`${webManifests}---\n{apiVersion: x.example/v1, kind: Service, metadata: {name: web}}`),
  },
  {
    rule: 'Deployments of several namespaces are not built',
    broken: {
      ...manifest(
        `${webManifests}---\n${apiManifests.replaceAll('metadata:\n  name: api', 'metadata:\n  name: api\n  namespace: elsewhere')}`,
      ),
      ...smi({ rootServiceName: 'web' }, { rootServiceName: 'api' }),
      targets: { qa: { namespace: undefined } },
    },
    found: [`step.unsupported ${inFile}`],
  },
  {
    rule: 'a target without a Deployment is not built',
    broken: manifest(`{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}`),
    found: ['step.unsupported /targets/qa'],
  },
  {
    rule: 'an HPA is not built',
    broken: manifest(
      `${webManifests}---\n{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web}}`,
    ),
    found: [`step.unsupported ${inFile}`],
  },
  {
    rule: 'a ScaledObject is not built',
    broken: manifest(`${webManifests}---\n{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: web}}`),
    found: [`step.unsupported ${inFile}`],
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

test('a misspelt field of a container says which was meant', () => {
  const file = shopFile(changed('          image: registry', '          imgae: registry'));
  const [violation] = violationsOf(file);
  assert.match(violation?.message ?? '', /containers\[0\]\.imgae is not a field of a container/);
  assert.equal(violation?.hint, "did you mean 'image'?");
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maskManifest, maskSecrets } from './mask-secrets.ts';

const secret =
  'apiVersion: v1\nkind: Secret\nmetadata: { name: s }\ndata: { a: cGxhbnRlZA== }\nstringData:\n  b: planted\n';

test('the values of Secrets are masked, their names and everything else stay', () => {
  const text = `kind: ConfigMap\ndata: { open: shown }\n---\n${secret}`;
  const shown = maskManifest(text);
  assert.ok(!shown.includes('planted') && !shown.includes('cGxhbnRlZA'));
  for (const word of ['open', 'shown', 'name: s', ' a: ', 'b: ']) assert.ok(shown.includes(word), word);
});

test('Secrets in a List, and data that is not a mapping, are masked', () => {
  const list = 'kind: List\nitems:\n- kind: Secret\n  data: { a: planted }\n- kind: Secret\n  stringData: planted\n';
  assert.ok(!maskManifest(list).includes('planted'));
});

test('an alias cannot carry a value past the mask', () => {
  const text = 'kind: Secret\ndata: { a: &x planted, b: *x }\n';
  assert.ok(!maskManifest(text).includes('planted'));
});

test('a text that names secrets and cannot be read is masked whole', () => {
  assert.equal(maskManifest('kind: Secret\ndata: {a: planted\n'), '(masked)');
});

test('a manifest without Secrets stays as it was written', () => {
  const text = 'kind: ConfigMap # secret stuff\ndata: {  a:   b }\n';
  assert.equal(maskManifest(text), text);
});

test('inline manifests and files of a start request are both masked', () => {
  const shown = maskSecrets({
    application: 'shop',
    manifests: [{ inline: secret }, { path: 'k8s' }],
    files: { k8s: [secret], '': null },
  });
  assert.ok(!JSON.stringify(shown).includes('planted'));
  assert.equal(shown.application, 'shop');
});

test('a Secret is found however it is written', () => {
  const hidden = [
    'kind: "Secre\\x74"\nstringData: {password: hunter2}',
    'a: &s {kind: Secret}\n<<: *s\ndata: {password: hunter2}',
  ];
  for (const text of hidden) {
    const shown = maskManifest(text);
    assert.ok(!shown.includes('hunter2'), shown);
    assert.ok(shown.includes('password'), shown);
  }
});

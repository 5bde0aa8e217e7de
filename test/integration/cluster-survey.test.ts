import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { AppError } from '@cdaas/contract/errors.ts';
import { identifyCluster } from '@cdaas/control-plane/clusters/identity.ts';
import { surveyCluster } from '@cdaas/control-plane/clusters/survey.ts';
import { explainTls } from '@cdaas/control-plane/clusters/tls.ts';
import { createAuthority, type Handler, json, refusal, startFakeApiServer } from '../support/fake-api-server.ts';
import { answerAsKubernetes } from '../support/fake-kubernetes.ts';
import { allowing } from '../support/kube-outcomes.ts';

const authority = await createAuthority();
const fake = await startFakeApiServer(await authority.issue('api', ['127.0.0.1']));
after(() => fake.close());

const outbound = allowing(fake.port);
const access = { server: fake.url, caData: authority.certificate, credential: { token: 'planted' } };
const publicUrl = 'http://127.0.0.1:8080';
const survey = (deadlineMs = 30_000) =>
  surveyCluster(
    { access, namespaces: ['shop'], clusterScopedKinds: [] },
    { outbound, publicUrl, now: new Date(), deadlineMs },
  );

const profiles = '/apis/linkerd.io/v1alpha2';
const usual = '/apis/apps/v1/namespaces/linkerd-smi/deployments/smi-adaptor';
const anywhere = '/apis/apps/v1/deployments';
const hang: Handler = () => {};
const refuse =
  (status: number): Handler =>
  (_request, response) =>
    refusal(response, status, 'Refused');
const serveProfiles: Handler = (_request, response) =>
  json(response, 200, {
    kind: 'APIResourceList',
    groupVersion: 'linkerd.io/v1alpha2',
    resources: [{ name: 'serviceprofiles', kind: 'ServiceProfile', namespaced: true, verbs: ['list'] }],
  });
const list =
  (...items: object[]): Handler =>
  (_request, response) =>
    json(response, 200, { kind: 'DeploymentList', apiVersion: 'apps/v1', metadata: {}, items });

/** A cluster with TrafficSplits and ServiceProfiles that answers the looks for the mesh so. */
function serve(looks: Record<string, Handler>): void {
  const groups = { 'split.smi-spec.io': ['v1alpha2'], 'linkerd.io': ['v1alpha2'] };
  const rest = answerAsKubernetes({ uid: 'the-uid', groups });
  const all: Record<string, Handler> = {
    [profiles]: serveProfiles,
    [usual]: refuse(404),
    [anywhere]: list(),
    ...looks,
  };
  fake.answer((request, response) => (all[(request.url ?? '').split('?')[0] ?? ''] ?? rest)(request, response));
}

async function failed(doing: Promise<unknown>): Promise<AppError> {
  const error: unknown = await doing.then(
    () => 'it succeeded',
    (reason) => reason,
  );
  assert.ok(error instanceof AppError, String(error));
  return error;
}

test('the mesh confirms weights where the adaptor is seen, or might be where the credential may not look', async () => {
  const cases: [string, Record<string, Handler>, string][] = [
    ['there', { [usual]: (_request, response) => json(response, 200, {}) }, 'linkerd-smi'],
    ['elsewhere', { [anywhere]: list({ metadata: { name: 'smi' } }) }, 'linkerd-smi'],
    ['nowhere', {}, 'stored'],
    ['no ServiceProfiles', { [profiles]: refuse(404) }, 'stored'],
    ['no right to either look', { [usual]: refuse(403), [anywhere]: refuse(403) }, 'linkerd-smi'],
    ['no right to the first look', { [usual]: refuse(403) }, 'linkerd-smi'],
    ['no right to the second look', { [anywhere]: refuse(403) }, 'linkerd-smi'],
  ];
  for (const [what, looks, expected] of cases) {
    serve(looks);
    assert.equal((await survey()).meshConfirmation, expected, what);
  }
});

test('a look for the mesh that fails is a failure, never a mesh that is not there', async () => {
  for (const path of [profiles, usual, anywhere]) {
    for (const status of [429, 500]) {
      serve({ [path]: refuse(status) });
      const { message, code } = await failed(survey());
      assert.equal(code, 'cluster.unreachable', message);
      assert.match(message, new RegExp(`answered ${status}`));
    }
  }
});

test('a cluster that stops answering is given up at the deadline, wherever it stops', async () => {
  for (const path of [profiles, usual, anywhere, '/api/v1/namespaces/kube-system']) {
    serve({ [path]: hang });
    const started = performance.now();
    const { message, code } = await failed(survey(500));
    assert.equal(code, 'cluster.unreachable', message);
    assert.match(message, /was not done answering within 0.5 s/, path);
    assert.ok(performance.now() - started < 5_000, path);
    fake.cut();
  }
});

test('asking who a cluster is, and what is wrong with its TLS, ends with the signal', async () => {
  serve({});
  const signal = AbortSignal.abort();
  assert.equal(await identifyCluster(access, outbound, signal), undefined);
  assert.equal(await explainTls(access, outbound, { now: new Date(), signal }), undefined);
});

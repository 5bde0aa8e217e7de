import { after, it } from 'node:test';
import { type AdmissionWebhook, silence, startAdmissionWebhook } from '../support/admission-webhook.ts';
import { withoutRealCluster } from '../support/real-cluster.ts';
import { openRealCluster } from '../support/real-test-cluster.ts';
import { until } from '../support/until.ts';
import type { AnyScene } from '../support/world.ts';
import { approve, fails, raisedTo10, runUnpleasant, succeeds, untilHeld } from './unpleasant.ts';

runUnpleasant('real', openRealCluster, withoutRealCluster, (title, at) => {
  const scene = () => at().world.sceneOn(at().tenant, at().where);
  const cleanUp: (() => Promise<unknown>)[] = [];
  after(async () => {
    for (const clean of cleanUp) await clean();
  });

  const create = async ({ client }: AnyScene, plural: string, body: { metadata: { name: string } }) => {
    const path = `/apis/admissionregistration.k8s.io/v1/${plural}`;
    const { status, body: answer } = await client.send('POST', path, body);
    if (status >= 300) throw new Error(`${plural}: HTTP ${status} ${String(answer.message)}`);
    cleanUp.push(() => client.send('DELETE', `${path}/${body.metadata.name}`));
  };
  const rule = {
    apiGroups: ['split.smi-spec.io'],
    apiVersions: ['*'],
    operations: ['CREATE', 'UPDATE'],
    resources: ['trafficsplits'],
  };
  const onlyIn = ({ namespace }: AnyScene) => ({ matchLabels: { 'kubernetes.io/metadata.name': namespace } });
  /** Until a split that gives its canary 50 % is refused. */
  const inForce = ({ client, namespace }: AnyScene) =>
    until(async () => {
      const backends = [
        { service: 'web', weight: 50 },
        { service: 'web-canary', weight: 50 },
      ];
      const path = `/apis/split.smi-spec.io/v1alpha2/namespaces/${namespace}/trafficsplits?dryRun=All`;
      const split = {
        apiVersion: 'split.smi-spec.io/v1alpha2',
        kind: 'TrafficSplit',
        metadata: { name: 'probe' },
        spec: { service: 'web', backends },
      };
      const { status, body } = await client.send('POST', path, split);
      return status >= 400 && /not above 10|not on Fridays|failed calling webhook/.test(JSON.stringify(body));
    }, 'admission is in force');

  it(title('a policy forbids weights above 10: the canary fails and is rolled back'), async () => {
    const here = await scene();
    const name = `weights-${here.namespace}`;
    await create(here, 'validatingadmissionpolicies', {
      metadata: { name },
      spec: {
        matchConstraints: { resourceRules: [rule] },
        validations: [{ expression: canaryAtMost10, message: 'not above 10' }],
      },
    } as { metadata: { name: string } });
    await create(here, 'validatingadmissionpolicybindings', {
      metadata: { name },
      spec: { policyName: name, validationActions: ['Deny'], matchResources: { namespaceSelector: onlyIn(here) } },
    } as { metadata: { name: string } });
    await inForce(here);
    const { run, recorder } = await raisedTo10(here);
    await approve(here, run);
    await fails(here, run, /ValidatingAdmissionPolicy .*denied request: not above 10/, recorder);
  });

  const withWebhook = async (judge: () => string): Promise<{ here: AnyScene; webhook: AdmissionWebhook }> => {
    const here = await scene();
    const webhook = await startAdmissionWebhook();
    const { url, caBundle } = webhook;
    await create(here, 'validatingwebhookconfigurations', {
      metadata: { name: `weights-${here.namespace}` },
      webhooks: [
        {
          name: 'weights.example.org',
          clientConfig: { url, caBundle },
          rules: [rule],
          namespaceSelector: onlyIn(here),
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
          timeoutSeconds: 1,
          failurePolicy: 'Fail',
        },
      ],
    } as { metadata: { name: string } });
    cleanUp.push(() => webhook.close());
    webhook.answer((object) => (canaryOf(object) > 10 ? judge() : null));
    await inForce(here);
    return { here, webhook };
  };

  it(title('a webhook rejects weights above 10: the canary fails and is rolled back'), async () => {
    const { here } = await withWebhook(() => 'not on Fridays');
    const { run, recorder } = await raisedTo10(here);
    await approve(here, run);
    await fails(here, run, /admission webhook "weights.example.org" denied the request: not on Fridays/, recorder);
  });

  it(title('a webhook that times out holds the canary, which goes on when it answers'), async () => {
    const { here, webhook } = await withWebhook(() => silence);
    const { run, recorder } = await raisedTo10(here);
    await approve(here, run);
    await untilHeld(run, /failed calling webhook "weights.example.org".*\(HTTP 500\)/);
    webhook.answer(() => null);
    await succeeds(run, recorder);
  });
});

const canaryAtMost10 = "object.spec.backends.all(b, b.service != 'web-canary' || int(string(b.weight)) <= 10)";

function canaryOf(object: unknown): number {
  const { spec } = object as { spec?: { backends?: { service: string; weight: number | string }[] } };
  return Number(spec?.backends?.find(({ service }) => service === 'web-canary')?.weight ?? 0);
}

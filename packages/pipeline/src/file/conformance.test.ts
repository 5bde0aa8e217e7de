import assert from 'node:assert/strict';
import { test } from 'node:test';
import { check, outcome, shopFile, violationsOf, webManifests } from './file-fixtures.ts';

/**
 * Section A of the conformance cases. `OK` and `WARN` are checked as far as this version goes: where the fragment needs a
 * feature that is not built, it must be refused by `unsupported` at this path, and must raise nothing else once it is moved
 * to where it has no effect (`elsewhere`).
 */
type Case = {
  id: string;
  patch: Record<string, unknown>;
  account?: string;
  /** Codes and paths of all violations; empty: accepted. */
  violations?: string[];
  /** Part of the only warning. */
  warning?: string;
  message?: RegExp;
  hint?: RegExp;
};

const steps = (...list: unknown[]) => ({ strategies: { slow: { canary: { steps: list } } } });
const first = '/strategies/slow/canary/steps/0';
const pause = (body: unknown) => steps({ pause: body });
/** A strategy that no target uses: its rules hold, and nothing of it has to be built yet. */
const unused = (...list: unknown[]) => ({ strategies: { other: { canary: { steps: list } } } });
const analysisBlock = {
  analysis: {
    defaultMetricProviderName: 'prom',
    queries: [{ name: 'errors', queryTemplate: 'sum(errors)', upperLimit: 5 }],
  },
};
const analysisStep = { queries: ['errors'], interval: 30, units: 'seconds', numberOfJudgmentRuns: 2 };
const webhook = { name: 'notify', method: 'POST', uriTemplate: 'https://hooks.example/start' };
const secondTarget = (strategy: unknown) => ({
  targets: { blue: { account: 'east', namespace: 'shop-blue', strategy: 'swap' } },
  strategies: { swap: strategy },
  targetFilters: [{ includeTarget: 'qa' }],
});

const cases: Case[] = [
  { id: 'A02', patch: { version: undefined } },
  { id: 'A03', patch: { version: 'v2' }, warning: "version 'v2' is not known" },
  { id: 'A04', patch: { kind: undefined } },
  { id: 'A07', patch: { application: 'shop' } },
  { id: 'A08', patch: { description: 'weekly train' } },
  { id: 'A09', patch: { context: { ring: 'blue' } } },
  { id: 'A12', patch: { targets: { qa: undefined } }, violations: ['field.required /targets'] },
  { id: 'A13', patch: { targets: { qa: { account: undefined } } }, violations: ['field.required /targets/qa/account'] },
  { id: 'A14', patch: { targets: { qa: { account: undefined } } }, account: 'east' },
  {
    id: 'A15',
    patch: { targets: { qa: { account: 'west' } } },
    violations: ['account.unknown /targets/qa/account'],
    message: /account 'west' does not exist/,
  },
  { id: 'A16', patch: { targets: { qa: { strategy: 'fast' } } }, violations: ['ref.strategy /targets/qa/strategy'] },
  {
    id: 'A18',
    patch: { targets: { qa: { strategy: undefined } }, strategies: undefined },
    violations: ['strategy.missing /targets/qa/strategy'],
  },
  {
    id: 'A19',
    patch: { strategies: { other: { canary: { steps: [{ setWeight: { weight: 5 } }] }, blueGreen: {} } } },
    violations: ['strategy.choice /strategies/other'],
  },
  {
    id: 'A21',
    patch: { targets: { qa: { constraints: { dependsOn: ['ghost'] } } } },
    violations: ['ref.target /targets/qa/constraints/dependsOn/0'],
  },
  {
    id: 'A22',
    patch: { targets: { qa: { constraints: { dependsOn: ['qa'] } } } },
    violations: ['target.cycle /targets/qa/constraints/dependsOn'],
  },
  {
    id: 'A23',
    patch: {
      targets: Object.fromEntries(
        [
          ['a', 'b'],
          ['b', 'c'],
          ['c', 'a'],
        ].map(([name = '', next]) => [name, { account: 'east', strategy: 'slow', constraints: { dependsOn: [next] } }]),
      ),
      targetFilters: [{ includeTarget: 'qa' }],
    },
    violations: ['target.cycle /targets/a/constraints/dependsOn'],
    message: /'a' -> 'b' -> 'c' -> 'a'/,
  },
  { id: 'A24', patch: { targets: { qa: { constraints: { dependsOn: [] } } } }, warning: 'dependsOn is empty' },
  {
    id: 'A28',
    patch: { targets: { qa: { constraints: { beforeDeployment: [{ analysis: analysisStep }] } } }, ...analysisBlock },
    violations: ['step.unsupported /targets/qa/constraints/beforeDeployment'],
  },
  {
    id: 'A29',
    patch: {
      targets: { qa: { constraints: { beforeDeployment: [{ analysis: analysisStep }] } } },
      analysis: {
        defaultMetricProviderName: 'prom',
        queries: [{ name: 'errors', queryTemplate: 'sum(e{rs="{{armory.replicaSetName}}"})', upperLimit: 5 }],
      },
    },
    violations: [
      'step.unsupported /targets/qa/constraints/beforeDeployment',
      'template.variable /targets/qa/constraints/beforeDeployment/0/analysis/queries/0',
    ],
  },
  {
    id: 'A31',
    patch: steps({ setWeight: { weight: 150 } }),
    violations: [`weight.range ${first}/setWeight/weight`],
    message: /between 0 and 100, not 150/,
  },
  { id: 'A34', patch: steps({ setWeight: { weight: 50 } }, { setWeight: { weight: 20 } }), warning: '20 after 50' },
  {
    id: 'A35',
    patch: steps({ setWeight: { weight: 5 }, pause: { untilApproved: true } }),
    violations: [`step.choice ${first}`],
  },
  { id: 'A38', patch: pause({ duration: 3 }), violations: [`pause.form ${first}/pause/duration`] },
  { id: 'A39', patch: pause({ duration: 3, unit: 'days' }), violations: [`field.enum ${first}/pause/unit`] },
  { id: 'A40', patch: pause({ duration: 3, unit: 'milliseconds' }), violations: [`field.enum ${first}/pause/unit`] },
  { id: 'A44', patch: pause({ untilApproved: true, approvalExpiration: { duration: 2, unit: 'hours' } }) },
  {
    id: 'A45',
    patch: pause({ untilApproved: true, approvalDuration: { duration: 2, unit: 'hours' } }),
    violations: [`field.unknown ${first}/pause/approvalDuration`],
    hint: /approvalExpiration/,
  },
  { id: 'A46', patch: pause({ duration: 0, unit: 'seconds' }), violations: [`field.range ${first}/pause/duration`] },
  {
    id: 'A49',
    patch: { deploymentConfig: { timeout: { duration: 5 } } },
    violations: ['field.required /deploymentConfig/timeout/unit'],
  },
  {
    id: 'A50',
    patch: { deploymentConfig: { ifDeploymentInProgress: { strategy: 'enqueueAll' } } },
    violations: ['field.enum /deploymentConfig/ifDeploymentInProgress/strategy'],
  },
  { id: 'A55', patch: { files: { 'k8s/app.yaml': undefined } }, violations: ['manifest.missing /manifests/0/path'] },
  {
    id: 'A57',
    patch: { files: { 'k8s/app.yaml': [`${webManifests}---\napiVersion: v1\nmetadata: {name: x}\n`] } },
    violations: ['manifest.object /files/k8s~1app.yaml/0'],
    message: /document 3.*kind is missing/,
  },
  { id: 'A58', patch: { files: { '': null } } },
  { id: 'A59', patch: { files: { 'k8s/app.yaml': [webManifests.replace('---', '---\n---')] } } },
  { id: 'A60', patch: { targetFilters: null } },
  {
    id: 'A63',
    patch: unused({ exposeServices: { services: ['web'], ttl: { duration: 25, unit: 'hours' } } }),
    violations: ['ttl.range /strategies/other/canary/steps/0/exposeServices/ttl/duration'],
  },
  {
    id: 'A64',
    patch: unused({ exposeServices: { services: ['web'], ttl: { duration: 59, unit: 'seconds' } } }),
    violations: ['ttl.range /strategies/other/canary/steps/0/exposeServices/ttl/duration'],
  },
  {
    id: 'A65',
    patch: unused({ analysis: analysisStep }),
    violations: ['ref.query /strategies/other/canary/steps/0/analysis/queries/0'],
  },
  { id: 'A66', patch: { ...unused({ analysis: analysisStep }), ...analysisBlock } },
  {
    id: 'A66 used',
    patch: { ...steps({ analysis: analysisStep }), ...analysisBlock },
    violations: [`step.unsupported ${first}/analysis`],
  },
  {
    id: 'A67',
    patch: { ...unused({ analysis: { ...analysisStep, units: null, unit: 'seconds' } }), ...analysisBlock },
    warning: 'old name of units',
  },
  { id: 'A68', patch: { analysis: { queries: [{ name: 'errors', queryTemplate: 'x', upperLimit: 100 }] } } },
  {
    id: 'A71',
    patch: { analysis: { queries: [{ name: 'errors', queryTemplate: 'x', upperLimit: 1, lowerLimit: 2 }] } },
    violations: ['query.limits /analysis/queries/0/lowerLimit'],
  },
  {
    id: 'A73',
    patch: { analysis: { queries: [1, 2].map((upperLimit) => ({ name: 'errors', queryTemplate: 'x', upperLimit })) } },
    violations: ['name.duplicate /analysis/queries/1/name'],
  },
  {
    id: 'A74',
    patch: unused({ runWebhook: { name: 'nope' } }),
    violations: ['ref.webhook /strategies/other/canary/steps/0/runWebhook/name'],
  },
  {
    id: 'A75',
    patch: {
      webhooks: [{ name: 'notify', uriTemplate: 'https://hooks.example' }],
      ...unused({ runWebhook: { name: 'notify' } }),
    },
  },
  {
    id: 'A75 used',
    patch: { webhooks: [webhook], ...steps({ runWebhook: { name: 'notify' } }) },
    violations: [`step.unsupported ${first}/runWebhook`],
  },
  { id: 'A77', patch: { webhooks: [{ ...webhook, networkMode: 'remoteNetworkAgent' }] } },
  { id: 'A78', patch: { webhooks: [{ ...webhook, bodyTemplate: '{}' }] }, warning: 'used as bodyTemplate.inline' },
  {
    id: 'A79',
    patch: { webhooks: [{ ...webhook, bodyTemplate: { path: 'b.json' } }] },
    violations: ['field.unknown /webhooks/0/bodyTemplate/path'],
  },
  {
    id: 'A82',
    patch: { trafficManagement: { smi: [{ rootServiceName: 'web' }] } },
    violations: ['field.type /trafficManagement'],
    hint: /list/,
  },
  {
    id: 'A83',
    patch: { trafficManagement: [{ smi: [{}] }] },
    violations: ['field.required /trafficManagement/0/smi/0/rootServiceName'],
  },
  {
    id: 'A85',
    patch: { trafficManagement: [{ smi: [{ rootServiceName: 'web' }], istio: [{ virtualService: { name: 'web' } }] }] },
    violations: ['traffic.conflict /trafficManagement/0/istio', 'step.unsupported /trafficManagement/0/istio/0'],
  },
  {
    id: 'A86',
    patch: {
      ...secondTarget({ blueGreen: {} }),
      trafficManagement: [
        { smi: [{ rootServiceName: 'web' }] },
        { targets: ['blue'], kubernetes: [{ activeService: 'web' }] },
      ],
    },
    warning: "trafficManagement[0].smi is ignored for target 'blue'",
  },
  {
    id: 'A88',
    patch: {
      ...secondTarget({ blueGreen: {} }),
      trafficManagement: [{ targets: ['qa'], smi: [{ rootServiceName: 'web' }] }],
    },
    violations: ['service.missing /targets/blue/strategy'],
  },
  {
    id: 'A90',
    patch: { strategies: { other: { blueGreen: { shutdownOldVersionAfter: [] } } } },
    violations: ['field.unknown /strategies/other/blueGreen/shutdownOldVersionAfter'],
    hint: /shutDownOldVersionAfter/,
  },
  {
    id: 'A91',
    patch: {
      ...secondTarget({ blueGreen: { activeService: 'web' } }),
      trafficManagement: [{ targets: ['qa'], smi: [{ rootServiceName: 'web' }] }],
    },
    warning: 'deprecated',
  },
  {
    id: 'A91 used',
    patch: {
      ...secondTarget({ blueGreen: { activeService: 'web' } }),
      targetFilters: [{ includeTarget: 'blue' }],
      trafficManagement: undefined,
    },
    violations: ['step.unsupported /strategies/swap/blueGreen'],
  },
];

for (const { id, patch, account, violations = [], warning, message, hint } of cases) {
  test(`conformance case ${id} has the outcome of the table`, () => {
    const file = shopFile(patch);
    const result = check(file, account);
    const found = violationsOf(file, account);
    assert.deepEqual(
      found.map(({ code, path }) => `${code} ${path}`),
      violations,
    );
    if (message !== undefined)
      assert.ok(
        found.some((violation) => message.test(violation.message)),
        found[0]?.message,
      );
    if (hint !== undefined) assert.match(found[0]?.hint ?? '', hint);
    if ('violations' in result) return;
    assert.equal(result.warnings.length, warning === undefined ? 0 : 1, result.warnings.join('; '));
    if (warning !== undefined) assert.ok(result.warnings[0]?.includes(warning), result.warnings[0]);
  });
}

test('the base file of the conformance cases, which splits traffic by pods, is refused as not supported yet', () => {
  assert.deepEqual(outcome(shopFile({ trafficManagement: undefined })), ['step.unsupported /targets/qa/strategy']);
});

test('a file with three documents of which one is empty gives two objects', () => {
  const result = check(shopFile({ files: { 'k8s/app.yaml': [webManifests.replace('---', '---\n# nothing\n---')] } }));
  assert.ok('plans' in result);
  assert.deepEqual(
    result.plans[0]?.objects.map(({ kind }) => kind),
    ['Service'],
  );
  assert.equal(result.plans[0]?.workloads[0]?.name, 'web');
});

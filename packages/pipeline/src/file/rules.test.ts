import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcome, shopFile, webManifests } from './file-fixtures.ts';
import { fileErrorCodes } from './violations.ts';

/**
 * Every rule twice: broken, where its code must appear at its path and nothing else does, and kept, where nothing does. The
 * kept form is as near to the broken one as can be, so that a rule that is too wide or missing fails here.
 */
type Patch = Record<string, unknown>;
type Rule = { rule: string; broken: Patch | string; found: string[]; kept?: Patch | string };

const other = (strategy: unknown): Patch => ({ strategies: { other: strategy } });
const step = (body: unknown): Patch => other({ canary: { steps: [body] } });
const at = '/strategies/other/canary/steps/0';
const pause = (body: unknown): Patch => step({ pause: body });
const query = { name: 'errors', queryTemplate: 'sum(errors)', upperLimit: 5 };
const judge = (body: Patch, block: Patch = { defaultMetricProviderName: 'prom', queries: [query] }): Patch => ({
  ...step({ analysis: { queries: ['errors'], interval: 30, units: 'seconds', numberOfJudgmentRuns: 2, ...body } }),
  analysis: block,
});
const hook = (body: Patch): Patch => ({
  webhooks: [{ name: 'notify', uriTemplate: 'https://hooks.example', ...body }],
});
const qa = (body: Patch): Patch => ({ targets: { qa: body } });
const many = (count: number, entry: (index: number) => [string, unknown]) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => entry(index)));

const rules: Rule[] = [
  // 400
  { rule: 'the file is a mapping', broken: '- a', found: ['file.syntax '] },
  { rule: 'a key appears once', broken: 'application: a\napplication: b', found: ['file.syntax '] },
  // Top level
  { rule: 'application is required', broken: { application: undefined }, found: ['field.required /application'] },
  { rule: 'application is not empty', broken: { application: '  ' }, found: ['field.required /application'] },
  {
    rule: 'application has at most 253 characters',
    broken: { application: 'a'.repeat(254) },
    found: ['field.range /application'],
    kept: { application: 'a'.repeat(253) },
  },
  { rule: 'application is one line', broken: { application: 'a\nb' }, found: ['field.type /application'] },
  {
    rule: 'application does not turn the text around it',
    broken: { application: 'shop\u202etset' },
    found: ['field.type /application'],
    kept: { application: 'فروشگاه\u200cshop' },
  },
  { rule: 'application is a text', broken: { application: 7 }, found: ['field.type /application'] },
  { rule: 'kind is a known word', broken: { kind: 'Kubernetes' }, found: ['field.enum /kind'] },
  { rule: 'kind lambda is not built', broken: { kind: 'lambda' }, found: ['step.unsupported /kind'] },
  {
    rule: 'context holds scalars',
    broken: { context: { ring: ['a'] } },
    found: ['field.type /context/ring'],
    kept: { context: { ring: 3, on: true } },
  },
  { rule: 'targets is required', broken: { targets: undefined }, found: ['field.required /targets'] },
  {
    rule: 'manifests is required',
    broken: { manifests: undefined, files: undefined },
    found: ['field.required /manifests'],
  },
  { rule: 'manifests is not empty', broken: { manifests: [], files: undefined }, found: ['field.required /manifests'] },
  {
    rule: 'sourceControl is a mapping',
    broken: { sourceControl: 'main' },
    found: ['field.type /sourceControl'],
    kept: { sourceControl: { prTitle: 'Fix {{ handlebars }}' } },
  },
  {
    rule: 'targetFilters name targets',
    broken: { targetFilters: [{ includeTarget: 'qb' }] },
    found: ['ref.target /targetFilters/0/includeTarget'],
    kept: { targetFilters: [{ includeTarget: 'qa' }] },
  },
  {
    rule: 'lists are bounded',
    broken: { strategies: many(201, (i) => [`s${i}`, { canary: { steps: [] } }]) },
    found: ['field.range /strategies'],
  },
  // deploymentConfig
  {
    rule: 'the timeout is at least a minute',
    broken: { deploymentConfig: { timeout: { duration: 59, unit: 'seconds' } } },
    found: ['timeout.min /deploymentConfig/timeout/duration'],
    kept: { deploymentConfig: { timeout: { duration: 60, unit: 'SECONDS' } } },
  },
  {
    rule: 'the timeout is at most a year',
    broken: { deploymentConfig: { timeout: { duration: 9999, unit: 'hours' } } },
    found: ['field.range /deploymentConfig/timeout/duration'],
  },
  {
    rule: 'a duration is whole',
    broken: { deploymentConfig: { timeout: { duration: 1.5, unit: 'hours' } } },
    found: ['field.type /deploymentConfig/timeout/duration'],
  },
  {
    rule: 'keepDeploymentObject is true or false',
    broken: { deploymentConfig: { keepDeploymentObject: 1 } },
    found: ['field.type /deploymentConfig/keepDeploymentObject'],
    kept: { deploymentConfig: { keepDeploymentObject: true } },
  },
  {
    rule: 'enqueueOne is not built',
    broken: { deploymentConfig: { ifDeploymentInProgress: { strategy: 'enqueueOne' } } },
    found: ['step.unsupported /deploymentConfig/ifDeploymentInProgress/strategy'],
    kept: { deploymentConfig: { ifDeploymentInProgress: { strategy: 'reject' } } },
  },
  {
    rule: 'deploymentConfig knows its fields',
    broken: { deploymentConfig: { timeOut: {} } },
    found: ['field.unknown /deploymentConfig/timeOut'],
  },
  // Targets
  {
    rule: 'a target has a name',
    broken: { targets: { ' ': { account: 'east', strategy: 'slow' } }, targetFilters: [{ includeTarget: 'qa' }] },
    found: ['field.range /targets/ '],
  },
  {
    rule: 'lists are bounded too',
    broken: { targetFilters: Array(201).fill({ includeTarget: 'qa' }) },
    found: ['field.range /targetFilters'],
  },
  { rule: 'a target knows its fields', broken: qa({ context: {} }), found: ['field.unknown /targets/qa/context'] },
  {
    rule: 'a namespace is a DNS label',
    broken: qa({ namespace: 'Shop_QA' }),
    found: ['field.type /targets/qa/namespace'],
  },
  { rule: 'an account is given', broken: qa({ account: '' }), found: ['field.required /targets/qa/account'] },
  {
    rule: 'a target depends on known targets',
    broken: {
      ...qa({}),
      targets: { b: { account: 'east', strategy: 'slow', constraints: { dependsOn: ['c'] } } },
      targetFilters: [{ includeTarget: 'qa' }],
    },
    found: ['ref.target /targets/b/constraints/dependsOn/0'],
  },
  {
    rule: 'steps before and after are not built',
    broken: qa({ constraints: { afterDeployment: [{ pause: { duration: 1, unit: 'seconds' } }] } }),
    found: ['step.unsupported /targets/qa/constraints/afterDeployment'],
    kept: qa({ constraints: { afterDeployment: [] } }),
  },
  {
    rule: 'setWeight is no constraint step',
    broken: {
      targets: {
        b: { account: 'east', strategy: 'slow', constraints: { beforeDeployment: [{ setWeight: { weight: 5 } }] } },
      },
      targetFilters: [{ includeTarget: 'qa' }],
    },
    found: ['field.unknown /targets/b/constraints/beforeDeployment/0/setWeight'],
  },
  // Strategies
  { rule: 'a strategy has a type', broken: other({}), found: ['strategy.choice /strategies/other'] },
  {
    rule: 'a canary has steps',
    broken: other({ canary: {} }),
    found: ['field.required /strategies/other/canary/steps'],
  },
  { rule: 'a step has one kind', broken: step({}), found: [`step.choice ${at}`] },
  {
    rule: 'a step has a known kind',
    broken: step({ setWieght: { weight: 1 } }),
    found: [`field.unknown ${at}/setWieght`],
  },
  { rule: 'a step is a mapping', broken: step(null), found: [`field.type ${at}`] },
  {
    rule: 'a weight is not negative',
    broken: step({ setWeight: { weight: -1 } }),
    found: [`weight.range ${at}/setWeight/weight`],
    kept: step({ setWeight: { weight: 0 } }),
  },
  {
    rule: 'a weight is at most 100',
    broken: step({ setWeight: { weight: 101 } }),
    found: [`weight.range ${at}/setWeight/weight`],
    kept: step({ setWeight: { weight: 100 } }),
  },
  {
    rule: 'a weight is whole',
    broken: step({ setWeight: { weight: 12.5 } }),
    found: [`field.type ${at}/setWeight/weight`],
  },
  { rule: 'setWeight has no short form', broken: step({ setWeight: 10 }), found: [`field.type ${at}/setWeight`] },
  // Pauses
  {
    rule: 'a pause is at most a year',
    broken: pause({ duration: 8785, unit: 'hours' }),
    found: [`field.range ${at}/pause/duration`],
    kept: pause({ duration: 8784, unit: 'hours' }),
  },
  {
    rule: 'an expiration is at most a year',
    broken: pause({ untilApproved: true, approvalExpiration: { duration: 8785, unit: 'hours' } }),
    found: [`field.range ${at}/pause/approvalExpiration/duration`],
  },
  { rule: 'a pause has a form', broken: pause({}), found: [`pause.form ${at}/pause`] },
  {
    rule: 'a unit needs a duration',
    broken: pause({ unit: 'seconds' }),
    found: [`pause.form ${at}/pause/unit`],
    kept: pause({ untilApproved: true, unit: 'none' }),
  },
  {
    rule: 'a duration has no unit none',
    broken: pause({ duration: 1, unit: 'none' }),
    found: [`field.enum ${at}/pause/unit`],
  },
  {
    rule: 'a pause is timed or approved',
    broken: pause({ untilApproved: true, duration: 1, unit: 'hours' }),
    found: [`pause.form ${at}/pause/duration`],
    kept: pause({ untilApproved: false, duration: 1, unit: 'hours' }),
  },
  {
    rule: 'untilApproved: false alone is no pause',
    broken: pause({ untilApproved: false }),
    found: [`pause.form ${at}/pause`],
  },
  {
    rule: 'roles need an approval',
    broken: pause({ duration: 1, unit: 'hours', requiresRoles: ['a'] }),
    found: [`pause.form ${at}/pause/requiresRoles`],
  },
  {
    rule: 'an expiration needs an approval',
    broken: pause({ duration: 1, unit: 'hours', approvalExpiration: { duration: 1, unit: 'hours' } }),
    found: [`pause.form ${at}/pause/approvalExpiration`],
  },
  {
    rule: 'a list of roles is not empty',
    broken: pause({ untilApproved: true, requiresRoles: [] }),
    found: [`roles.empty ${at}/pause/requiresRoles`],
    kept: pause({ untilApproved: true, requiresRoles: ['Approver'] }),
  },
  {
    rule: 'roles do not go into the expiration',
    broken: pause({ untilApproved: true, approvalExpiration: { duration: 1, unit: 'hours', requiresRoles: ['a'] } }),
    found: [`field.unknown ${at}/pause/approvalExpiration/requiresRoles`],
  },
  {
    rule: 'requiresRoles is not built',
    broken: { strategies: { slow: { canary: { steps: [{ pause: { untilApproved: true, requiresRoles: ['a'] } }] } } } },
    found: ['step.unsupported /strategies/slow/canary/steps/0/pause/requiresRoles'],
  },
  {
    rule: 'exposeServices is not built',
    broken: { strategies: { slow: { canary: { steps: [{ exposeServices: { services: ['web'] } }] } } } },
    found: ['step.unsupported /strategies/slow/canary/steps/0/exposeServices'],
  },
  {
    rule: 'services to expose are named',
    broken: step({ exposeServices: { services: [] } }),
    found: [`field.required ${at}/exposeServices/services`],
    kept: step({ exposeServices: { services: ['web'], ttl: { duration: 24, unit: 'hours' } } }),
  },
  // Analysis
  {
    rule: 'a query is known',
    broken: judge({ queries: ['erors'] }),
    found: [`ref.query ${at}/analysis/queries/0`],
    kept: judge({}),
  },
  { rule: 'queries are named', broken: judge({ queries: [] }), found: [`field.required ${at}/analysis/queries`] },
  {
    rule: 'a query has a provider',
    broken: judge({}, { queries: [query] }),
    found: [`ref.provider ${at}/analysis/queries/0`],
    kept: judge({ metricProviderName: 'prom' }, { queries: [query] }),
  },
  { rule: 'units are given', broken: judge({ units: null }), found: [`field.required ${at}/analysis/units`] },
  { rule: 'units have one name', broken: judge({ unit: 'seconds' }), found: [`field.unknown ${at}/analysis/unit`] },
  {
    rule: 'roll modes are known words',
    broken: judge({ rollBackMode: 'auto' }),
    found: [`field.enum ${at}/analysis/rollBackMode`],
    kept: judge({ rollBackMode: 'Automatic', lookbackMethod: 'GROWING' }),
  },
  {
    rule: 'a query has a limit',
    broken: { analysis: { queries: [{ name: 'a', queryTemplate: 'x' }] } },
    found: ['query.limits /analysis/queries/0'],
    kept: { analysis: { queries: [{ name: 'a', queryTemplate: 'x', lowerLimit: 0.5 }] } },
  },
  {
    rule: 'lower is not above upper',
    broken: { analysis: { queries: [{ ...query, lowerLimit: 5.1 }] } },
    found: ['query.limits /analysis/queries/0/lowerLimit'],
    kept: { analysis: { queries: [{ ...query, lowerLimit: 5 }] } },
  },
  // Webhooks
  {
    rule: 'webhooks have different names',
    broken: { webhooks: [1, 2].map(() => ({ name: 'a', uriTemplate: 'https://h.example' })) },
    found: ['name.duplicate /webhooks/1/name'],
  },
  {
    rule: 'a webhook has an address',
    broken: hook({ uriTemplate: null }),
    found: ['field.required /webhooks/0/uriTemplate'],
    kept: hook({}),
  },
  {
    rule: 'a method is an HTTP verb',
    broken: hook({ method: 'FETCH' }),
    found: ['field.enum /webhooks/0/method'],
    kept: hook({ method: 'put' }),
  },
  {
    rule: 'networkMode is exact',
    broken: hook({ networkMode: 'Direct' }),
    found: ['field.enum /webhooks/0/networkMode'],
  },
  {
    rule: 'an agent needs its network mode',
    broken: hook({ agentIdentifier: 'a' }),
    found: ['field.unknown /webhooks/0/agentIdentifier'],
    kept: hook({ agentIdentifier: 'a', networkMode: 'remoteNetworkAgent' }),
  },
  {
    rule: 'retryCount is not negative',
    broken: hook({ retryCount: -1 }),
    found: ['field.range /webhooks/0/retryCount'],
    kept: hook({ retryCount: 0 }),
  },
  // Templates
  {
    rule: 'a query knows its variables',
    broken: { analysis: { queries: [{ ...query, queryTemplate: '{{armory.callbackUri}}' }] } },
    found: ['template.variable /analysis/queries/0/queryTemplate'],
    kept: {
      analysis: {
        queries: [{ ...query, queryTemplate: '{{ armory.startTimeIso8601 }}{{context.a}}{{armory.preview.my-web}}' }],
      },
    },
  },
  {
    rule: 'a webhook knows its variables',
    broken: hook({ headers: [{ key: 'a', value: '{{armory.endTimeIso8601}}' }] }),
    found: ['template.variable /webhooks/0/headers/0/value'],
    kept: hook({ headers: [{ key: 'a', value: '{{armory.callbackUri}}' }] }),
  },
  {
    rule: 'templates have no sections',
    broken: hook({ uriTemplate: '{{#context.a}}x{{/context.a}}' }),
    found: ['template.variable /webhooks/0/uriTemplate'],
  },
  {
    rule: 'other fields know secrets only',
    broken: { description: '{{context.a}}' },
    found: ['template.variable /description'],
    kept: { description: 'braces {{ left open' },
  },
  {
    rule: 'secrets are not built',
    broken: { description: '{{ secrets.a }}' },
    found: ['step.unsupported /description'],
  },
  {
    rule: 'secrets in inline manifests are not built',
    broken: { manifests: [{ inline: `${webManifests}# {{secrets.a}}` }], files: undefined },
    found: ['step.unsupported /manifests/0/inline'],
    kept: { manifests: [{ inline: `${webManifests}# \${{ secrets.A }} {{ .Values.x }}` }], files: undefined },
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

test('an unbroken file breaks no rule and gives no warning', () => {
  assert.deepEqual(outcome(shopFile()), []);
});

test('every error code is reached by this table, rules-cluster.test.ts or the conformance cases', () => {
  const elsewhere = [
    'manifest.choice',
    'manifest.missing',
    'manifest.kind',
    'manifest.object',
    'service.same',
    'traffic.conflict',
    'account.unknown',
    'ref.strategy',
    'ref.webhook',
    'strategy.missing',
    'target.cycle',
    'ttl.range',
    'service.missing',
  ];
  const reached = new Set([...elsewhere, ...rules.flatMap(({ found }) => found.map((line) => line.split(' ')[0]))]);
  assert.deepEqual(
    fileErrorCodes.filter((code) => !reached.has(code)),
    [],
  );
});

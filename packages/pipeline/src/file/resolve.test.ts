import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { check, outcome, shopFile, violationsOf, webManifests } from './file-fixtures.ts';
import type { ResolvedFile } from './resolve.ts';

function resolved(source: unknown, account?: string): ResolvedFile {
  const result = check(source, account);
  assert.ok('plans' in result, JSON.stringify('violations' in result ? result.violations : []));
  return result;
}

const steps = (...list: unknown[]) => ({ strategies: { slow: { canary: { steps: list } } } });

test('a plan holds what the file says, defaults filled in', () => {
  const { pipeline, plans, warnings } = resolved(
    shopFile({
      description: null,
      context: { ring: 1 },
      contextOverrides: { ring: 'old', more: true },
      ...steps(
        { setWeight: { weight: 20 } },
        { pause: { duration: 2, unit: 'Hours' } },
        { pause: { untilApproved: true } },
        { pause: { untilApproved: true, approvalExpiration: { duration: 3, unit: 'minutes' } } },
      ),
    }),
  );
  assert.deepEqual(pipeline, {
    application: 'shop',
    description: '',
    context: { ring: '1', more: 'true' },
    sourceControl: {},
    onConflict: 'reject',
  });
  assert.deepEqual(warnings, ['contextOverrides is the old name of context']);
  const [plan] = plans;
  assert.deepEqual(plan?.steps, [
    { kind: 'setWeight', weight: 20 },
    { kind: 'pause', duration: 2, unit: 'HOURS' },
    { kind: 'pause', untilApproved: true, approvalExpirationSeconds: null },
    { kind: 'pause', untilApproved: true, approvalExpirationSeconds: 180 },
  ]);
  assert.deepEqual(plan?.routes[0], {
    rootServiceName: 'web',
    canaryServiceName: 'web-canary',
    canaryServiceGiven: false,
    trafficSplitName: 'web',
  });
  const { application, target, account, namespace, readyTimeoutSeconds, drainSeconds } = plan!;
  assert.deepEqual(
    [application, target, account, namespace, readyTimeoutSeconds, drainSeconds],
    ['shop', 'qa', 'east', 'shop-qa', 1800, 5],
  );
  assert.deepEqual(
    [plan?.workloads[0]?.name, plan?.workloads[0]?.replicas, plan?.workloads[0]?.manifest.metadata.namespace],
    ['web', 3, 'shop-qa'],
  );
});

test('the names of an smi entry are taken as given', () => {
  const { plans } = resolved(
    shopFile({
      trafficManagement: [
        { targets: ['qa'], smi: [{ rootServiceName: 'front', canaryServiceName: 'next', trafficSplitName: 'split' }] },
      ],
    }),
  );
  assert.deepEqual(plans[0]?.routes[0], {
    rootServiceName: 'front',
    canaryServiceName: 'next',
    canaryServiceGiven: true,
    trafficSplitName: 'split',
  });
});

test('Deployments come in the order of their names, and so do routes by their root Services', () => {
  const api = webManifests.replaceAll('web', 'api');
  const { plans } = resolved(
    shopFile({
      files: { 'k8s/app.yaml': [`${webManifests}---\n${api}`] },
      trafficManagement: [{ smi: [{ rootServiceName: 'web', trafficSplitName: 'a' }, { rootServiceName: 'api' }] }],
    }),
  );
  assert.deepEqual(
    plans[0]?.workloads.map(({ name }) => name),
    ['api', 'web'],
  );
  assert.deepEqual(
    plans[0]?.routes.map(({ rootServiceName, canaryServiceName, trafficSplitName }) => [
      rootServiceName,
      canaryServiceName,
      trafficSplitName,
    ]),
    [
      ['api', 'api-canary', 'api'],
      ['web', 'web-canary', 'a'],
    ],
  );
});

test('replicas default to one, and the timeout of the file counts in seconds', () => {
  const { plans } = resolved(
    shopFile({
      deploymentConfig: { timeout: { duration: 2, unit: 'minutes' } },
      files: { 'k8s/app.yaml': [webManifests.replace('  replicas: 3\n', '')] },
    }),
  );
  assert.equal(plans[0]?.workloads[0]?.replicas, 1);
  assert.equal(plans[0]?.readyTimeoutSeconds, 120);
});

test('the account of the request replaces that of every target, of the file or of the options', () => {
  assert.equal(resolved(shopFile({ targets: { qa: { account: 'west' } } }), 'sandbox').plans[0]?.account, 'sandbox');
  assert.equal(resolved(shopFile({ account: 'sandbox' })).plans[0]?.account, 'sandbox');
  assert.equal(resolved(shopFile({ account: '' }), '').plans[0]?.account, 'east');
  assert.deepEqual(outcome(shopFile(), 'west'), ['account.unknown /targets/qa/account']);
  assert.deepEqual(outcome(shopFile({ account: 'west' })), ['account.unknown /account']);
});

test('targetFilters choose the target that is planned, and only its account must exist', () => {
  const file = shopFile({
    targets: { prod: { account: 'far', namespace: 'prod', strategy: 'slow' } },
    targetFilters: [{ includeTarget: 'qa' }],
  });
  assert.deepEqual(
    resolved(file).plans.map(({ target }) => target),
    ['qa'],
  );
});

test('all targets are planned in the order of the file, whatever their names, each with what it depends on', () => {
  const target = (name: string, ...dependsOn: string[]) =>
    `  "${name}": { account: east, namespace: ns-${name}, strategy: slow, constraints: { dependsOn: [${dependsOn}] } }`;
  const file = stringify(shopFile({ targets: undefined }));
  const targets = [target('prod', 'staging', '"7"', 'staging'), target('staging'), target('7', 'staging')];
  const { plans, dependencies } = resolved(`${file}targets:\n${targets.join('\n')}\n`);
  assert.deepEqual(
    plans.map((plan) => [plan.target, plan.namespace]),
    [
      ['prod', 'ns-prod'],
      ['staging', 'ns-staging'],
      ['7', 'ns-7'],
    ],
  );
  assert.deepEqual(
    [...dependencies],
    [
      ['prod', ['staging', '7']],
      ['staging', []],
      ['7', ['staging']],
    ],
  );
});

test('a target that targetFilters leave out is waited for by nobody, which is a warning', () => {
  const target = (name: string, ...dependsOn: string[]) => ({
    account: 'east',
    namespace: name,
    strategy: 'slow',
    ...(dependsOn.length === 0 ? {} : { constraints: { dependsOn } }),
  });
  const { plans, dependencies, warnings } = resolved(
    shopFile({
      targets: { staging: target('staging'), eu: target('eu', 'qa', 'staging'), prod: target('prod', 'eu', 'qa') },
      targetFilters: [{ includeTarget: 'prod' }, { includeTarget: 'qa' }],
    }),
  );
  assert.deepEqual(
    plans.map((plan) => plan.target),
    ['qa', 'prod'],
  );
  assert.deepEqual(
    [...dependencies],
    [
      ['qa', []],
      ['prod', ['qa']],
    ],
  );
  assert.deepEqual(warnings, ["target 'prod' does not wait for 'eu', which targetFilters leave out"]);
});

test('an explicit final weight of 100 and empty steps are fine; going back is a warning', () => {
  assert.deepEqual(outcome(shopFile(steps({ setWeight: { weight: 100 } }))), []);
  assert.match(outcome(shopFile(steps()))[0] ?? '', /^WARN .*is empty/);
});

test('all violations of a file are told at once, in its order, with line and column', () => {
  const found = violationsOf(`version: v1
kind: kubernetes
targets:
  qa:
    acount: east
    namespace: Shop
    strategy: fast
manifests:
  - inline: |
      apiVersion: apps/v1
      kind: Deployment
      metadata:
        name: web
strategies:
  slow:
    canary:
      steps:
        - setWeight:
            weight: 150
        - pause:
            duration: 3
            unit: days
        - setWeight: 10
`);
  assert.deepEqual(
    found.map(({ code, path, line, column }) => `${code} ${path} ${line}:${column}`),
    [
      'field.required /application 1:1',
      'field.required /targets/qa/account 4:3',
      'field.unknown /targets/qa/acount 5:5',
      'field.type /targets/qa/namespace 6:16',
      'ref.strategy /targets/qa/strategy 7:15',
      'manifest.object /manifests/0/inline 10:7',
      'weight.range /strategies/slow/canary/steps/0/setWeight/weight 19:21',
      'field.enum /strategies/slow/canary/steps/1/pause/unit 22:19',
      'field.type /strategies/slow/canary/steps/2/setWeight 23:22',
    ],
  );
});

test('what a file breaks is told even where it also asks for what is not built', () => {
  const codes = violationsOf(
    shopFile({
      strategies: {
        slow: { canary: { steps: [{ setWeight: { weight: 150 } }, { exposeServices: { services: ['web'] } }] } },
      },
    }),
  ).map(({ code }) => code);
  assert.deepEqual(codes, ['weight.range', 'step.unsupported']);
});

const hints: [what: string, patch: Record<string, unknown>, hint: RegExp][] = [
  ['the short form of setWeight', steps({ setWeight: 10 }), /write setWeight: \{weight: 10\}/],
  ['a misspelt kind of step', steps({ setWieght: { weight: 1 } }), /did you mean 'setWeight'\?/],
  ['another letter case', steps({ setweight: { weight: 1 } }), /did you mean 'setWeight'\?/],
  ['a misspelt strategy', { targets: { qa: { strategy: 'slwo' } } }, /did you mean 'slow'\?/],
  ['a misspelt target', { targetFilters: [{ includeTarget: 'q' }, { includeTarget: 'qaa' }] }, /did you mean 'qa'\?/],
  ['a misspelt unit', steps({ pause: { duration: 1, unit: 'second' } }), /did you mean 'seconds'\?/],
  ['a misspelt account', { targets: { qa: { account: 'eats' } } }, /did you mean 'east'\?/],
  ['a misspelt kind', { kind: 'Kubernetes' }, /did you mean 'kubernetes'\?/],
  [
    'the beginning of a field',
    { trafficManagement: [{ smi: [{ rootServiceName: 'web', canaryService: 'c' }] }] },
    /did you mean 'canaryServiceName'\?/,
  ],
  [
    'a qualified Service name',
    { trafficManagement: [{ smi: [{ rootServiceName: 'web.shop.svc.cluster.local' }] }] },
    /write the plain name: 'web'/,
  ],
  [
    'a long root Service name',
    { trafficManagement: [{ smi: [{ rootServiceName: 'w'.repeat(60) }] }] },
    /give canaryServiceName/,
  ],
  ['context under a target', { targets: { qa: { context: {} } } }, /top-level `context`/],
  [
    'roles inside the expiration',
    steps({ pause: { untilApproved: true, approvalExpiration: { duration: 1, unit: 'hours', requiresRoles: ['a'] } } }),
    /beside approvalExpiration/,
  ],
  ['yes for true', { deploymentConfig: { keepDeploymentObject: 'yes' } }, /write true/],
  ['a number in quotes', steps({ setWeight: { weight: '10' } }), /without quotes/],
  ['a list that is a mapping', { targetFilters: { includeTarget: 'qa' } }, /start each entry with '- '/],
];

for (const [what, patch, hint] of hints) {
  test(`${what} gets a hint`, () => {
    const found = violationsOf(shopFile(patch)).map((violation) => violation.hint ?? '');
    assert.ok(
      found.some((text) => hint.test(text)),
      found.join(' | '),
    );
  });
}

const webhook = { name: 'notify', uriTemplate: 'https://hooks.example' };
const warnings: [what: string, patch: Record<string, unknown>, warning: RegExp][] = [
  [
    'a dead field of a query',
    { analysis: { queries: [{ name: 'a', queryTemplate: 'x', upperLimit: 1, aggregationMethod: 'avg' }] } },
    /aggregationMethod means nothing/,
  ],
  [
    'an agent switch against the network mode',
    { webhooks: [{ ...webhook, isRemoteNetworkAgent: true }] },
    /isRemoteNetworkAgent is ignored; networkMode \(direct\) decides/,
  ],
  [
    'a stray unit of a webhook step',
    {
      webhooks: [webhook],
      strategies: { other: { canary: { steps: [{ runWebhook: { name: 'notify', unit: 'seconds' } }] } } },
    },
    /unit means nothing/,
  ],
  ['a secret in a manifest file', { files: { 'k8s/app.yaml': [`${webManifests}# {{secrets.a}}`] } }, /is not replaced/],
  [
    'a paused Deployment',
    { files: { 'k8s/app.yaml': [webManifests.replace('replicas: 3', 'paused: true')] } },
    /spec.paused is ignored/,
  ],
  ['an old name of context', { contextOverrides: {} }, /old name of context/],
];

for (const [what, patch, warning] of warnings) {
  test(`${what} is one warning`, () => {
    const found = outcome(shopFile(patch));
    assert.equal(found.length, 1, found.join(' | '));
    assert.match(found[0] ?? '', /^WARN /);
    assert.match(found[0] ?? '', warning);
  });
}

test('an unknown field at the top level is a warning that names the near one', () => {
  assert.deepEqual(outcome(shopFile({ strategy: {} })), [
    "WARN 'strategy' is not a known field and is ignored; did you mean 'strategies'?",
  ]);
});

test('more mistakes than anybody reads are counted, not listed', () => {
  const found = violationsOf(shopFile(unknownFields(1000)));
  assert.equal(found.length, 201);
  assert.match(found.at(-1)?.message ?? '', /800 more/);
});

function unknownFields(count: number): Record<string, unknown> {
  return { deploymentConfig: Object.fromEntries(Array.from({ length: count }, (_, index) => [`field${index}`, 1])) };
}

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { describe, test } from 'node:test';
import { type ClusterAccessProblem, parseClusterAccess } from './kubeconfig.ts';

const ca = `-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIUN+ss+SFejwciEqN7MZ1TMl6UQBIwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHVGVzdCBDQTAgFw0yNjExMjQxMDQxMTRaGA8yMTI2MTAzMTEw
NDExNFowEjEQMA4GA1UEAwwHVGVzdCBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABGpgQ5RfQ/ITPUep9Ogd/ZHOhGB4+4XFUlTnR7U8HLVscKbzP7B1lBu2SvEC
SQfRZGwF1VjaWj+7OJm1KNJaE1ijUzBRMB0GA1UdDgQWBBSJFNyG9O+l4L/cVSms
HpLmXKo37jAfBgNVHSMEGDAWgBSJFNyG9O+l4L/cVSmsHpLmXKo37jAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIHXMhRe1B7To864e5tom6pINIytu
w8PfnxshX9JME332AiEA9Ldrj8rC4j+GYYJe4gfA4OGuPG0FEDBVNuBOm2+hxnc=
-----END CERTIFICATE-----
`;
const caData = Buffer.from(ca).toString('base64');
const token = 'tOken-Planted.in_the~test';
const strangeKey = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString();

type Config = { cluster?: object; user?: object; context?: object; top?: object };

function kubeconfig({ cluster = {}, user = {}, context = {}, top = {} }: Config = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: 'other', cluster: { server: 'http://unused', 'insecure-skip-tls-verify': true } },
      { name: 'prod', cluster: { server: 'https://10.0.0.1:6443', 'certificate-authority-data': caData, ...cluster } },
    ],
    users: [
      { name: 'other', user: { exec: { command: 'rm' } } },
      { name: 'deployer', user: { token, ...user } },
    ],
    contexts: [{ name: 'prod-deployer', context: { cluster: 'prod', user: 'deployer', ...context } }],
    'current-context': 'prod-deployer',
    ...top,
  });
}

function problemsOf(input: Record<string, unknown>): ClusterAccessProblem[] {
  const parsed = parseClusterAccess(input);
  assert.ok(!parsed.ok, 'it was accepted');
  assert.ok(parsed.problems.length > 0);
  return parsed.problems;
}

/** Exactly one problem, at `path`, whose message or hint matches. */
function refused(input: Record<string, unknown>, path: string, expected: RegExp): void {
  const problems = problemsOf(input);
  assert.equal(problems.length, 1, JSON.stringify(problems));
  const [{ message, hint = '', ...problem }] = problems as [ClusterAccessProblem];
  assert.equal(problem.code, 'cluster.refused');
  assert.equal(problem.path, path);
  assert.match(`${message} ${hint}`, expected);
}

describe('a cluster given field by field', () => {
  const fields = { server: 'https://10.0.0.1:6443/', caData, token };

  test('server, CA and token are taken', () => {
    assert.deepEqual(parseClusterAccess(fields), {
      ok: true,
      access: { server: 'https://10.0.0.1:6443', caData: ca, credential: { token } },
    });
  });

  test('the CA may be PEM itself, and a path before the API is kept', () => {
    const parsed = parseClusterAccess({ ...fields, server: 'https://rancher.example/k8s/clusters/c-1/', caData: ca });
    assert.ok(parsed.ok);
    assert.equal(parsed.access.server, 'https://rancher.example/k8s/clusters/c-1');
    assert.equal(parsed.access.caData, ca);
  });

  const table: [string, Record<string, unknown>, string, RegExp][] = [
    ['http', { server: 'http://10.0.0.1' }, '/server', /https/],
    ['no server', { server: '' }, '/server', /missing/],
    ['a server that is no URL', { server: 'prod' }, '/server', /not a URL/],
    ['a server that is a list', { server: ['https://a'] }, '/server', /not a URL/],
    ['credentials in the server', { server: 'https://u:p@10.0.0.1' }, '/server', /user name or password/],
    ['a query', { server: 'https://10.0.0.1/?a=b' }, '/server', /query/],
    ['an empty query', { server: 'https://10.0.0.1/?' }, '/server', /query/],
    ['a fragment', { server: 'https://10.0.0.1/#a' }, '/server', /fragment/],
    ['no CA', { caData: undefined }, '/caData', /only the registered CA/],
    ['a CA that is not base64', { caData: '%%%' }, '/caData', /base64 of PEM/],
    ['a CA that is no certificate', { caData: Buffer.from('hello').toString('base64') }, '/caData', /base64 of PEM/],
    ['a CA with a key in it', { caData: ca + strangeKey }, '/caData', /block 2 of 2 is not a PEM certificate/],
    [
      'a CA with a NUL in it',
      { caData: Buffer.from(ca.replace('-----\n', '-----\n\0\n')).toString('base64') },
      '/caData',
      /block 1 of 1 is not/,
    ],
    ['a broken certificate', { caData: ca.replace('MIIB', 'MIIC') }, '/caData', /block 1 of 1 is not/],
    ['a huge CA', { caData: 'A'.repeat(200_000) }, '/caData', /at most 128 KiB/],
    ['no credential', { token: undefined }, '/token', /credential is missing/],
    ['a token with a line break', { token: 'a\r\nX-Evil: 1' }, '/token', /not a bearer token/],
    ['a token that is a number', { token: 7 }, '/token', /not a bearer token/],
    ['a huge token', { token: 'a'.repeat(9000) }, '/token', /longer than/],
    ['two credentials', { clientKeyData: strangeKey }, '/token', /both a token and a client certificate/],
    ['a certificate alone', { token: undefined, clientCertificateData: caData }, '/clientKeyData', /key .* missing/],
    [
      'a key alone',
      { token: undefined, clientKeyData: strangeKey },
      '/clientCertificateData',
      /certificate .* missing/,
    ],
    ['an unknown field', { insecure: true }, '/insecure', /not known/],
  ];
  for (const [what, change, path, expected] of table) {
    test(`${what} is refused`, () => refused({ ...fields, ...change }, path, expected));
  }

  test('a key that belongs to another certificate is refused', () => {
    const input = { server: fields.server, caData, clientCertificateData: caData, clientKeyData: strangeKey };
    refused(input, '/clientKeyData', /does not belong/);
  });

  test('a key under a passphrase is refused', () => {
    const { privateKey } = generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' },
    });
    const input = { server: fields.server, caData, clientCertificateData: caData, clientKeyData: privateKey };
    refused(input, '/clientKeyData', /passphrase/);
  });

  test('all problems are reported at once', () => {
    const paths = problemsOf({ server: 'http://a', exec: {} }).map((problem) => problem.path);
    assert.deepEqual(paths.toSorted(), ['/caData', '/exec', '/server', '/token']);
  });
});

describe('a cluster given as a kubeconfig', () => {
  test('server, CA and token of the current context are taken, whatever the other entries hold', () => {
    assert.deepEqual(parseClusterAccess({ kubeconfig: kubeconfig() }), {
      ok: true,
      access: { server: 'https://10.0.0.1:6443', caData: ca, credential: { token } },
    });
  });

  test('what changes nothing is accepted: namespace, extensions, preferences, empty and false fields', () => {
    const parsed = parseClusterAccess({
      kubeconfig: kubeconfig({
        cluster: { 'insecure-skip-tls-verify': false, 'proxy-url': '', extensions: [{ name: 'x' }] },
        user: { exec: null, tokenFile: '' },
        context: { namespace: 'shop', extensions: [] },
        top: { preferences: {} },
      }),
    });
    assert.ok(parsed.ok);
  });

  test('plain YAML is read', () => {
    const yaml = [
      'apiVersion: v1',
      'kind: Config',
      'clusters:',
      '- name: c',
      `  cluster: {server: "https://c.example", certificate-authority-data: ${caData}}`,
      'users:',
      '- name: u',
      `  user: {token: ${token}}`,
      'contexts:',
      '- {name: x, context: {cluster: c, user: u}}',
    ].join('\n');
    assert.ok(parseClusterAccess({ kubeconfig: yaml, context: 'x' }).ok);
    const exec = yaml.replace(`{token: ${token}}`, '\n      exec:\n        command: id');
    const [problem] = problemsOf({ kubeconfig: exec, context: 'x' });
    assert.deepEqual([problem?.path, problem?.line], ['/kubeconfig/users/0/user/exec', 10]);
  });

  const cluster = '/kubeconfig/clusters/1/cluster';
  const user = '/kubeconfig/users/1/user';
  const traps: [string, Config, string][] = [
    ['exec', { user: { token: '', exec: { command: '/bin/sh' } } }, `${user}/exec`],
    ['auth-provider', { user: { token: '', 'auth-provider': { name: 'gcp' } } }, `${user}/auth-provider`],
    ['tokenFile', { user: { token: '', tokenFile: '/etc/passwd' } }, `${user}/tokenFile`],
    ['tokenFile', { user: { tokenFile: '/etc/passwd' } }, `${user}/tokenFile`],
    ['client-certificate', { user: { 'client-certificate': '/a' } }, `${user}/client-certificate`],
    ['client-key', { user: { 'client-key': '/a' } }, `${user}/client-key`],
    ['username', { user: { username: 'a' } }, `${user}/username`],
    ['password', { user: { password: 'a' } }, `${user}/password`],
    ['as', { user: { as: 'system:admin' } }, `${user}/as`],
    ['as-uid', { user: { 'as-uid': '1' } }, `${user}/as-uid`],
    ['as-groups', { user: { 'as-groups': ['system:masters'] } }, `${user}/as-groups`],
    ['as-user-extra', { user: { 'as-user-extra': { a: ['b'] } } }, `${user}/as-user-extra`],
    ['impersonate', { user: { impersonate: 'x' } }, `${user}/impersonate`],
    ['certificate-authority', { cluster: { 'certificate-authority': '/ca' } }, `${cluster}/certificate-authority`],
    [
      'insecure-skip-tls-verify',
      { cluster: { 'insecure-skip-tls-verify': true } },
      `${cluster}/insecure-skip-tls-verify`,
    ],
    ['proxy-url', { cluster: { 'proxy-url': 'http://evil' } }, `${cluster}/proxy-url`],
    ['tls-server-name', { cluster: { 'tls-server-name': 'a' } }, `${cluster}/tls-server-name`],
    ['api-version', { cluster: { 'api-version': 'v0' } }, `${cluster}/api-version`],
    ['plugins', { top: { plugins: ['x'] } }, '/kubeconfig/plugins'],
    ['admin', { context: { admin: true } }, '/kubeconfig/contexts/0/context/admin'],
  ];
  for (const [name, config, path] of traps) {
    test(`'${name}' at ${path} is refused by its name`, () => {
      refused({ kubeconfig: kubeconfig(config) }, path, new RegExp(`'${name}' is refused: it `));
    });
  }

  const shapes: [string, Record<string, unknown>, string, RegExp][] = [
    ['an object in place of text', { kubeconfig: { kind: 'Config' } }, '/kubeconfig', /as text/],
    ['a list', { kubeconfig: '[]' }, '/kubeconfig', /not a kubeconfig/],
    ['another kind', { kubeconfig: kubeconfig({ top: { kind: 'Pod' } }) }, '/kubeconfig/kind', /kind must be Config/],
    [
      'another version',
      { kubeconfig: kubeconfig({ top: { apiVersion: 'v2' } }) },
      '/kubeconfig/apiVersion',
      /must be v1/,
    ],
    [
      'an unknown context',
      { kubeconfig: kubeconfig(), context: 'x' },
      '/context',
      /no context named 'x' known: prod-dep/,
    ],
    [
      'no context',
      { kubeconfig: kubeconfig({ top: { 'current-context': '' } }) },
      '/kubeconfig/current-context',
      /one of prod/,
    ],
    ['a context that is a list', { kubeconfig: kubeconfig(), context: ['x'] }, '/context', /name of a context/],
    [
      'a cluster that is not there',
      { kubeconfig: kubeconfig({ context: { cluster: '__proto__' } }) },
      '/kubeconfig/contexts/0/context/cluster',
      /no cluster named '__proto__'/,
    ],
    ['a field beside it', { kubeconfig: kubeconfig(), token }, '/token', /beside a kubeconfig/],
    [
      'a token and a certificate',
      { kubeconfig: kubeconfig({ user: { 'client-key-data': 'x' } }) },
      `${user}/token`,
      /both/,
    ],
    [
      'no CA',
      { kubeconfig: kubeconfig({ cluster: { 'certificate-authority-data': '' } }) },
      `${cluster}/certificate-authority-data`,
      /CA/,
    ],
    ['two users of one name', { kubeconfig: twoUsers() }, '/kubeconfig/users/1', /2 users named 'deployer'/],
    ['broken YAML', { kubeconfig: `a: "${token}` }, '/kubeconfig', /not readable as YAML \([A-Z_]+\)/],
    ['a repeated key', { kubeconfig: 'kind: Config\nkind: Config' }, '/kubeconfig', /same key twice/],
    ['two documents', { kubeconfig: `${kubeconfig()}\n---\n${kubeconfig()}` }, '/kubeconfig', /MULTIPLE_DOCS/],
    ['an alias', { kubeconfig: 'kind: &a Config\nother: *a' }, '/kubeconfig', /aliases/],
    ['an unknown tag', { kubeconfig: 'kind: !!js/function "x"' }, '/kubeconfig', /TAG_RESOLVE_FAILED/],
    ['deep brackets', { kubeconfig: '['.repeat(100_000) }, '/kubeconfig', /deeper than/],
    ['deep dashes', { kubeconfig: '- '.repeat(100_000) }, '/kubeconfig', /deeper than|not readable/],
    ['deep levels', { kubeconfig: '{"a":'.repeat(20) + 1 + '}'.repeat(20) }, '/kubeconfig', /deeper than/],
    ['a huge file', { kubeconfig: '#'.repeat(300_000) }, '/kubeconfig', /larger than 256 KiB/],
  ];
  function twoUsers(): string {
    const config = JSON.parse(kubeconfig()) as { users: unknown[] };
    config.users.push(config.users[1]);
    return JSON.stringify(config);
  }
  for (const [what, input, path, expected] of shapes) {
    test(`${what} is refused`, () => refused(input, path, expected));
  }

  test('a file of a great many keys is answered in little time, with a bounded number of problems', () => {
    const started = performance.now();
    const keys = Array.from({ length: 20_000 }, (_, index) => `k${index}: 1`).join('\n');
    assert.equal(problemsOf({ kubeconfig: keys }).length, 50);
    assert.ok(performance.now() - started < 2000);
  });

  test('no refusal repeats a secret', () => {
    const secret = `${token}-and-more`;
    const inputs = [
      { kubeconfig: `token: ${secret}\n  : "` },
      { kubeconfig: kubeconfig({ user: { token: `${secret} x`, password: secret, 'client-key-data': secret } }) },
      { server: `https://u:${secret}@a`, caData: secret, token: `${secret}\n${secret}`, clientKeyData: secret },
    ];
    for (const input of inputs) {
      const text = JSON.stringify(problemsOf(input));
      assert.ok(!text.includes(secret), text);
    }
  });
});

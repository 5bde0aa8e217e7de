import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  classifyAddress,
  createOutbound,
  createResolver,
  type OutboundRule,
  parseOutboundAllow,
  type Resolve,
} from './outbound.ts';

function rulesOf(text: string): OutboundRule[] {
  const parsed = parseOutboundAllow(text);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.rules;
}

const resolveTo =
  (...addresses: string[]): Resolve =>
  async () =>
    addresses.map((address) => ({ address }));

describe('OUTBOUND_ALLOW', () => {
  test('entries are divided by commas or white space, and a bare address is one address', () => {
    assert.deepEqual(rulesOf('cluster:10.0.0.0/8:6443, metrics:[fd00::/8]:*\nwebhook:127.0.0.1:8080'), [
      { purpose: 'cluster', network: '10.0.0.0', prefix: 8, port: 6443 },
      { purpose: 'metrics', network: 'fd00::', prefix: 8, port: '*' },
      { purpose: 'webhook', network: '127.0.0.1', prefix: 32, port: 8080 },
    ]);
    assert.deepEqual(rulesOf(''), []);
  });

  test('IPv6 ranges may go without brackets', () => {
    assert.deepEqual(rulesOf('cluster:fd00:1::/32:443'), [
      { purpose: 'cluster', network: 'fd00:1::', prefix: 32, port: 443 },
    ]);
  });

  const bad: [string, RegExp][] = [
    ['10.0.0.0/8', /expected purpose:cidr:port/],
    ['cluster:10.0.0.0/8', /expected purpose:cidr:port/],
    ['clusters:10.0.0.0/8:443', /unknown purpose 'clusters'.*cluster, webhook/],
    ['cluster:10.0.0.0/33:443', /length/],
    ['cluster:10.0.0.1/8:443', /write 10\.0\.0\.0\/8/],
    ['cluster:ten/8:443', /no address range/],
    ['cluster:10.0.0.0/8/8:443', /no address range/],
    ['cluster:0x7f.1:443', /no address range/],
    ['cluster:10.0.0.0/8:0', /no port/],
    ['cluster:10.0.0.0/8:70000', /no port/],
    ['cluster:10.0.0.0/8:https', /no port/],
  ];
  for (const [entry, expected] of bad) {
    test(`'${entry}' is refused with a reason`, () => {
      const parsed = parseOutboundAllow(`cluster:127.0.0.1:1 ${entry}`);
      assert.ok(!parsed.ok);
      assert.equal(parsed.problems.length, 1);
      assert.match(parsed.problems[0] ?? '', expected);
    });
  }

  test('all bad entries are reported at once', () => {
    const parsed = parseOutboundAllow('a b c');
    assert.ok(!parsed.ok && parsed.problems.length === 3);
  });
});

describe('addresses', () => {
  const table: [string, string][] = [
    ['8.8.8.8', 'public'],
    ['2606:4700:4700::1111', 'public'],
    ['127.0.0.1', 'loopback'],
    ['127.255.0.9', 'loopback'],
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'unspecified'],
    ['10.1.2.3', 'private'],
    ['172.16.0.1', 'private'],
    ['172.31.255.255', 'private'],
    ['172.32.0.1', 'public'],
    ['192.168.1.1', 'private'],
    ['100.64.0.1', 'carrier-grade NAT'],
    ['169.254.1.1', 'link-local'],
    ['169.254.169.254', 'cloud metadata'],
    ['100.100.100.200', 'cloud metadata'],
    ['168.63.129.16', 'cloud metadata'],
    ['198.18.0.1', 'reserved'],
    ['203.0.113.9', 'reserved'],
    ['240.0.0.1', 'reserved'],
    ['224.0.0.1', 'multicast'],
    ['255.255.255.255', 'broadcast'],
    ['::', 'unspecified'],
    ['::1', 'loopback'],
    ['fe80::1', 'link-local'],
    ['fe80::1%eth0', 'link-local'],
    ['fd00::1', 'private'],
    ['fc00::1', 'private'],
    ['fd00:ec2::254', 'cloud metadata'],
    ['fec0::1', 'site-local'],
    ['ff02::1', 'multicast'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['::ffff:7f00:1', 'loopback'],
    ['::ffff:169.254.169.254', 'cloud metadata'],
    ['::ffff:8.8.8.8', 'public'],
    ['::127.0.0.1', 'reserved'],
    ['::ffff:0:127.0.0.1', 'reserved'],
    ['64:ff9b::10.0.0.1', 'private'],
    ['64:ff9b::7f00:1', 'loopback'],
    ['64:ff9b::808:808', 'public'],
    ['64:ff9b:1::10.0.0.1', 'reserved'],
    ['2002:7f00:1::', '6to4'],
    ['2001:0:7f00:1::', 'Teredo'],
    ['2001:db8::1', 'reserved'],
    ['4000::1', 'reserved'],
    ['100::1', 'reserved'],
    ['127.1', 'unreadable'],
    ['0x7f000001', 'unreadable'],
    ['', 'unreadable'],
  ];
  for (const [address, kind] of table) {
    test(`${address || 'nothing'} is ${kind}`, () => assert.equal(classifyAddress(address).kind, kind));
  }
});

describe('outbound calls', () => {
  test('public addresses are open and answered as they were resolved', async () => {
    const outbound = createOutbound([], resolveTo('8.8.8.8', '2606:4700:4700::1111'));
    assert.deepEqual(await outbound.check('cluster', 'k8s.example.com', 443), {
      ok: true,
      addresses: [
        { address: '8.8.8.8', family: 4 },
        { address: '2606:4700:4700::1111', family: 6 },
      ],
    });
  });

  test('one bad address among good ones refuses the name', async () => {
    const outbound = createOutbound([], resolveTo('8.8.8.8', '127.0.0.1'));
    const verdict = await outbound.check('cluster', 'k8s.example.com', 443);
    assert.ok(!verdict.ok && verdict.code === 'outbound.refused');
  });

  test('a refusal names the address, the purpose and the entry that would allow it', async () => {
    const verdict = await createOutbound([], resolveTo('10.0.0.5')).check('cluster', 'api.internal', 6443);
    assert.ok(!verdict.ok);
    assert.match(verdict.message, /api\.internal leads to 10\.0\.0\.5, which is a private address; cluster calls/);
    assert.match(verdict.message, /OUTBOUND_ALLOW=cluster:10\.0\.0\.5\/32:6443$/);
  });

  test('the entry that a refusal proposes does allow the call', async () => {
    for (const address of ['10.0.0.5', '169.254.169.254', '169.254.3.4', 'fd00::7', '::1', '::ffff:127.0.0.1']) {
      const refused = await createOutbound([]).check('cluster', address, 6443);
      assert.ok(!refused.ok, address);
      const entry = /OUTBOUND_ALLOW=(.*)$/.exec(refused.message)?.[1] ?? '';
      const allowed = await createOutbound(rulesOf(entry)).check('cluster', address, 6443);
      assert.ok(allowed.ok, `${address} by ${entry}`);
    }
  });

  const decisions: [string, string, 'cluster' | 'webhook', string, number, boolean][] = [
    ['its own port', 'cluster:127.0.0.1/32:6443', 'cluster', '127.0.0.1', 6443, true],
    ['another port', 'cluster:127.0.0.1/32:6443', 'cluster', '127.0.0.1', 6444, false],
    ['another purpose', 'cluster:127.0.0.1/32:6443', 'webhook', '127.0.0.1', 6443, false],
    ['another address', 'cluster:127.0.0.1/32:6443', 'cluster', '127.0.0.2', 6443, false],
    ['the mapped form', 'cluster:127.0.0.1/32:6443', 'cluster', '::ffff:127.0.0.1', 6443, true],
    ['a range', 'cluster:10.0.0.0/8:*', 'cluster', '10.200.1.1', 1, true],
    ['metadata under a wide range', 'cluster:0.0.0.0/0:*', 'cluster', '169.254.169.254', 80, false],
    ['metadata under the link-local range', 'cluster:169.254.0.0/16:*', 'cluster', '169.254.169.254', 80, false],
    ['metadata by name', 'cluster:169.254.169.254/32:80', 'cluster', '169.254.169.254', 80, true],
    ['link-local under a wide range', 'cluster:0.0.0.0/0:*', 'cluster', '169.254.7.7', 80, false],
    ['private under a wide range', 'cluster:0.0.0.0/0:*', 'cluster', '192.168.7.7', 80, true],
    ['IPv6 metadata under a wide range', 'cluster:fd00::/8:*', 'cluster', 'fd00:ec2::254', 80, false],
  ];
  for (const [what, rules, purpose, address, port, open] of decisions) {
    test(`${rules} ${open ? 'opens' : 'does not open'} ${what}`, async () => {
      assert.equal((await createOutbound(rulesOf(rules)).check(purpose, address, port)).ok, open);
    });
  }

  test('decimal and hexadecimal spellings of an address are judged by what they resolve to', async () => {
    for (const host of ['2130706433', '0x7f000001', '0x7f.1', '127.1', '017700000001']) {
      const verdict = await createOutbound([]).check('cluster', host, 443);
      assert.ok(!verdict.ok, host);
      const asUrl = new URL(`https://${host}/`).hostname;
      assert.ok(!(await createOutbound([]).check('cluster', asUrl, 443)).ok, asUrl);
    }
  });

  test('a name that does not resolve is no refusal of the operator', async () => {
    const outbound = createOutbound([], async () => {
      throw Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' });
    });
    assert.deepEqual(await outbound.check('webhook', 'nowhere.invalid', 443), {
      ok: false,
      code: 'outbound.unresolved',
      message: 'the name nowhere.invalid does not resolve to an address (ENOTFOUND)',
    });
  });
});

describe('resolving', () => {
  const never: Resolve = () => new Promise(() => {});

  test('one name is asked for once at a time, and anew afterwards', async () => {
    let asked = 0;
    const resolve = createResolver(async () => [{ address: `10.0.0.${++asked}` }]);
    const [first, second] = await Promise.all([resolve('a'), resolve('a')]);
    assert.deepEqual(first, second);
    assert.deepEqual(await resolve('a'), [{ address: '10.0.0.2' }]);
  });

  test('names that hang the operating system’s resolver leave the others a way', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const resolve = createResolver(never, resolveTo('8.8.8.8'));
    const hanging = ['a', 'a', 'b'].map((name) => resolve(name));
    assert.deepEqual(await resolve('good'), [{ address: '8.8.8.8' }]);
    t.mock.timers.tick(5000);
    for (const name of hanging) await assert.rejects(name, { code: 'ETIMEOUT' });
  });

  test('a failed look-up gives its place back', async () => {
    let failing = true;
    const byOs: Resolve = async () => {
      if (failing) throw Object.assign(new Error('not found'), { code: 'ENOTFOUND' });
      return [{ address: '8.8.8.8' }];
    };
    const resolve = createResolver(byOs, never);
    for (const name of ['a', 'b', 'c']) await assert.rejects(resolve(name), { code: 'ENOTFOUND' });
    failing = false;
    assert.deepEqual(await resolve('a'), [{ address: '8.8.8.8' }]);
  });
});

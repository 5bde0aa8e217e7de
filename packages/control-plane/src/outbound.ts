import { type LookupAddress, promises } from 'node:dns';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import ipaddr from 'ipaddr.js';
import { buildConnector } from 'undici';

/*
 * Calls that this server makes on a tenant's behalf go only where the operator's network allows it. A tenant names a
 * host; what counts is the address it leads to at the moment of the connection. So: resolve, check every address,
 * and dial exactly those addresses. A name that resolves to something else a moment later (DNS rebinding) changes
 * nothing, because it is not resolved again. Public addresses are open; everything else needs an OUTBOUND_ALLOW entry.
 */

export const outboundPurposes = ['cluster', 'webhook', 'metrics', 'manifest'] as const;
export type OutboundPurpose = (typeof outboundPurposes)[number];

/** One entry of OUTBOUND_ALLOW: calls for `purpose` may go to addresses in `network`/`prefix` on `port`. */
export type OutboundRule = { purpose: OutboundPurpose; network: string; prefix: number; port: number | '*' };

export type CheckedAddress = { address: string; family: 4 | 6 };
export type OutboundVerdict =
  | { ok: true; addresses: CheckedAddress[] }
  | { ok: false; code: 'outbound.refused' | 'outbound.unresolved'; message: string };

export type Outbound = {
  /** Resolves `hostname` (name or address, IPv6 without brackets) and checks every address that it leads to. */
  check(purpose: OutboundPurpose, hostname: string, port: number): Promise<OutboundVerdict>;
};

/** Resolves a name to its addresses, as the operating system would; rejects with an error that has a `code`. */
export type Resolve = (hostname: string) => Promise<{ address: string }[]>;

/** The refusal as an error, for where a socket reports it. Its message is for the user. */
export class OutboundError extends Error {
  readonly code: 'outbound.refused' | 'outbound.unresolved';
  constructor(code: 'outbound.refused' | 'outbound.unresolved', message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Reads OUTBOUND_ALLOW: entries `purpose:cidr:port` divided by commas or white space, for example
 * `cluster:10.0.0.0/8:6443, metrics:[fd00::/8]:*`. A cidr without a length is one address. Reports every bad entry.
 */
export function parseOutboundAllow(
  text: string,
): { ok: true; rules: OutboundRule[] } | { ok: false; problems: string[] } {
  const rules: OutboundRule[] = [];
  const problems: string[] = [];
  for (const entry of text.split(/[\s,]+/).filter((part) => part !== '')) {
    const rule = parseRule(entry);
    if (typeof rule === 'string') problems.push(`entry '${entry}': ${rule}`);
    else rules.push(rule);
  }
  return problems.length > 0 ? { ok: false, problems } : { ok: true, rules };
}

function parseRule(entry: string): OutboundRule | string {
  const match = /^([^:]+):(.+):([^:]+)$/.exec(entry);
  if (!match) return 'expected purpose:cidr:port, for example cluster:10.0.0.0/8:6443';
  const [, word, cidr, portText] = match as unknown as [string, string, string, string];
  const purpose = outboundPurposes.find((known) => known === word);
  if (!purpose) return `unknown purpose '${word}', expected one of ${outboundPurposes.join(', ')}`;
  const port = portText === '*' ? '*' : /^\d{1,5}$/.test(portText) ? Number(portText) : 0;
  if (port !== '*' && (port < 1 || port > 65535)) return `'${portText}' is no port: expected 1 to 65535 or *`;

  const [network = '', length, ...rest] = cidr.replace(/^\[(.*)\]$/, '$1').split('/');
  const family = isIP(network);
  if (family === 0 || rest.length > 0) return `'${cidr}' is no address range: expected for example 10.0.0.0/8`;
  const bits = family === 4 ? 32 : 128;
  const prefix = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (prefix < 0 || prefix > bits) return `'/${length}' is no length of a range: expected 0 to ${bits}`;
  const first = (family === 4 ? ipaddr.IPv4 : ipaddr.IPv6).networkAddressFromCIDR(`${network}/${prefix}`).toString();
  if (first !== ipaddr.parse(network).toString())
    return `${network} is not the start of a /${prefix}: write ${first}/${prefix}`;
  return { purpose, network: first, prefix, port };
}

/** Addresses where cloud providers hand out credentials; an entry opens them only if it names them alone. */
const metadataAddresses = new Set([
  '169.254.169.254', // AWS, Google, Azure, OpenStack and others
  '169.254.170.2', // AWS ECS task credentials
  '169.254.170.23', // AWS EKS pod identity
  'fd00:ec2::254', // AWS over IPv6
  'fd00:ec2::23', // AWS EKS pod identity over IPv6
  'fd20:ce::254', // Google over IPv6
  '100.100.100.200', // Alibaba
  '168.63.129.16', // Azure's host, a public address that leads inside
  '192.0.0.192', // Oracle
]);

type Classified = { address: string; kind: string };

/**
 * Says what an address is: 'public', or the word for why it is not. An IPv4 address wrapped in IPv6 (mapped ::ffff:0:0/96,
 * NAT64 64:ff9b::/96) is judged as the IPv4 address that the packets reach.
 */
export function classifyAddress(text: string): Classified {
  const zoneless = text.replace(/%.*$/, '');
  const family = isIP(zoneless);
  if (family === 0) return { address: text, kind: 'unreadable' };
  // ipaddr.js reads ::1.2.3.4 as ::ffff:1.2.3.4, another address; in the URL parser's spelling it cannot.
  const spelled = family === 6 ? new URL(`http://[${zoneless}]`).hostname.slice(1, -1) : zoneless;
  let parsed: ReturnType<typeof ipaddr.parse> = ipaddr.parse(spelled);
  if (parsed instanceof ipaddr.IPv6) {
    const bytes = parsed.toByteArray();
    const nat64 = parsed.match(ipaddr.IPv6.parse('64:ff9b::'), 96);
    if (parsed.isIPv4MappedAddress() || nat64) parsed = new ipaddr.IPv4(bytes.slice(12));
  }
  const address = parsed.toString();
  if (metadataAddresses.has(address)) return { address, kind: 'cloud metadata' };
  const range = parsed.range();
  if (range !== 'unicast') return { address, kind: words[range] ?? 'reserved' };
  // Only 2000::/3 is routed on the Internet; what lies outside and has no name of its own is nothing to dial.
  if (parsed instanceof ipaddr.IPv6 && !parsed.match(ipaddr.IPv6.parse('2000::'), 3)) {
    return { address, kind: 'reserved' };
  }
  return { address, kind: 'public' };
}

const words: Partial<Record<string, string>> = {
  unspecified: 'unspecified',
  broadcast: 'broadcast',
  multicast: 'multicast',
  linkLocal: 'link-local',
  loopback: 'loopback',
  carrierGradeNat: 'carrier-grade NAT',
  private: 'private',
  uniqueLocal: 'private',
  deprecatedSiteLocal: 'site-local',
  '6to4': '6to4',
  teredo: 'Teredo',
};

/** Whether an entry opens this address. A wide entry never opens metadata or link-local addresses by accident. */
function opens(rule: OutboundRule, purpose: OutboundPurpose, target: Classified, port: number): boolean {
  if (rule.purpose !== purpose || (rule.port !== '*' && rule.port !== port)) return false;
  const address = ipaddr.parse(target.address);
  const network = ipaddr.parse(rule.network);
  if (address.kind() !== network.kind() || !address.match(network, rule.prefix)) return false;
  if (target.kind === 'cloud metadata') return rule.prefix === (address.kind() === 'ipv4' ? 32 : 128);
  return target.kind !== 'link-local' || classifyAddress(rule.network).kind === 'link-local';
}

/** The guard that every outbound call for a tenant passes. `resolve` is replaced by tests only. */
export function createOutbound(rules: readonly OutboundRule[], resolve: Resolve = createResolver()): Outbound {
  return {
    async check(purpose, hostname, port) {
      let found: { address: string }[];
      try {
        found = isIP(hostname) ? [{ address: hostname }] : await resolve(hostname);
      } catch (error) {
        return { ok: false, code: 'outbound.unresolved', message: unresolved(hostname, codeOf(error)) };
      }
      if (found.length === 0) return { ok: false, code: 'outbound.unresolved', message: unresolved(hostname) };

      const addresses: CheckedAddress[] = [];
      for (const { address } of found) {
        const target = classifyAddress(address);
        if (target.kind !== 'public' && !rules.some((rule) => opens(rule, purpose, target, port))) {
          return { ok: false, code: 'outbound.refused', message: refusal(purpose, hostname, target, port) };
        }
        addresses.push({ address, family: isIP(address) === 6 ? 6 : 4 });
      }
      return { ok: true, addresses };
    },
  };
}

function refusal(purpose: OutboundPurpose, hostname: string, target: Classified, port: number): string {
  const where = hostname === target.address ? hostname : `${hostname.slice(0, 253)} leads to ${target.address}, which`;
  const named = target.kind === 'unreadable' ? 'not an address' : `a ${target.kind} address`;
  const cidr = isIP(target.address) === 6 ? `[${target.address}/128]` : `${target.address}/32`;
  return `${where} is ${named}; ${purpose} calls to it are refused unless the operator sets OUTBOUND_ALLOW=${purpose}:${cidr}:${port}`;
}

function unresolved(hostname: string, code?: string): string {
  return `the name ${hostname.slice(0, 253)} does not resolve to an address${code ? ` (${code})` : ''}`;
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[A-Z_]{1,40}$/.test(code) ? code : undefined;
}

const lookupTimeoutMs = 5000;
const osLookupSlots = 2;

/**
 * Resolves as the operating system does (hosts file included), but never with more than two of libuv's four threads:
 * getaddrinfo blocks a thread for as long as a hostile name server likes, and files and cryptography need the others.
 * While both are taken, names go to the DNS servers directly. One question per name is open at a time.
 */
export function createResolver(byOs: Resolve = askOs, byDns: Resolve = askDns): Resolve {
  const open = new Map<string, Promise<{ address: string }[]>>();
  let osLookups = 0;

  const ask = async (hostname: string): Promise<{ address: string }[]> => {
    if (osLookups >= osLookupSlots) return byDns(hostname);
    osLookups += 1;
    try {
      return await byOs(hostname);
    } finally {
      osLookups -= 1;
    }
  };
  return (hostname) => {
    let asking = open.get(hostname);
    if (!asking) {
      asking = ask(hostname).finally(() => open.delete(hostname));
      open.set(hostname, asking);
    }
    return withTimeout(asking);
  };
}

function askOs(hostname: string): Promise<LookupAddress[]> {
  return promises.lookup(hostname, { all: true });
}

async function askDns(hostname: string): Promise<{ address: string }[]> {
  const resolver = new promises.Resolver({ timeout: 2000, tries: 2 });
  const [v4, v6] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
  const found = [v4, v6].flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
  if (found.length === 0 && v4.status === 'rejected') throw v4.reason;
  return found.map((address) => ({ address }));
}

function withTimeout<T>(promise: Promise<T>): Promise<T> {
  return new Promise((done, failed) => {
    const timer = setTimeout(() => {
      failed(Object.assign(new Error('the name did not resolve in time'), { code: 'ETIMEOUT' }));
    }, lookupTimeoutMs);
    promise.then(done, failed).finally(() => clearTimeout(timer));
  });
}

export type ConnectorOptions = { ca?: string; cert?: string; key?: string; connectTimeoutMs?: number };

/**
 * The `connect` function of an undici client for calls of one purpose: checks the host, then dials only the addresses
 * that were checked. A refusal reaches the request as an OutboundError. Speaks HTTP/1.1 only.
 */
export function createConnector(
  outbound: Outbound,
  purpose: OutboundPurpose,
  { connectTimeoutMs = 5000, ...tls }: ConnectorOptions = {},
): buildConnector.connector {
  // Made once: reading the CA and the key again for every connection costs more than the rest of it.
  let secureContext: SecureContext | undefined;
  return (options, callback) => {
    // undici types the callback as a union of argument lists, which a generic caller cannot satisfy.
    const answer = callback as (error: Error | null, socket: Socket | null) => void;
    const port = Number(options.port || (options.protocol === 'https:' ? 443 : 80));
    outbound.check(purpose, options.hostname, port).then(
      (verdict) => {
        if (!verdict.ok) return answer(new OutboundError(verdict.code, verdict.message), null);
        // Node asks `lookup` only for names; an address in the URL was checked above as it stands.
        const lookup: LookupFunction = (_host, _options, found) => found(null, verdict.addresses);
        try {
          secureContext ??= createSecureContext(tls);
          const connect = buildConnector({
            secureContext,
            allowH2: false,
            timeout: connectTimeoutMs,
            autoSelectFamily: true,
            lookup,
          });
          connect(options, answer as buildConnector.Callback);
        } catch (error) {
          // OpenSSL throws at once over a certificate that it finds too weak; nobody else would catch it here.
          answer(error as Error, null);
        }
      },
      (error: Error) => answer(error, null),
    );
  };
}

import type { Database } from '@cdaas/control-plane/database/db.ts';
import type { Vault } from '@cdaas/control-plane/encryption.ts';
import type { EventHub } from '@cdaas/control-plane/events.ts';
import type { Outbound } from '@cdaas/control-plane/outbound.ts';
import type { WakeQueue } from '@cdaas/control-plane/queue.ts';
import type { SigningKeys } from '@cdaas/control-plane/signing-keys.ts';
import type { Logger } from 'pino';
import type { Metrics } from './plugins/metrics.ts';

/** What the API is told about where it stands. */
export type ApiSettings = {
  /** Where clients reach it; issuer and audience of tokens, base of links. No slash at the end. */
  publicUrl: string;
  /** What a Host header may say, lower case, with the port where it is not the scheme's own. */
  allowedHosts: readonly string[];
  bodyLimitBytes: number;
  /** How deep a JSON body may nest. */
  bodyDepthLimit: number;
  /** Of one principal, or of one address where nobody is signed in. */
  requestsPerMinute: number;
  /** Clusters that a tenant may register. */
  clustersPerTenant: number;
  /** Addresses or networks of proxies whose X-Forwarded-For is believed. */
  trustedProxies: readonly string[];
  /** How long a deployment lets connections drain after traffic left a backend. */
  drainSeconds: number;
};

export type ApiDeps = {
  db: Database;
  queue: Pick<WakeQueue, 'enqueueWake'>;
  vault: Vault;
  outbound: Outbound;
  signingKeys: SigningKeys;
  events: EventHub;
  metrics: Metrics;
  log: Logger;
  settings: ApiSettings;
};

export const usualLimits = { requestsPerMinute: 1_200, clustersPerTenant: 200 };

/** Settings for a public URL: its own host is allowed, and the names of the local machine where it is one of them. */
export function settingsFor(publicUrl: string): ApiSettings {
  const { host, hostname, port, protocol } = new URL(publicUrl);
  const suffix = port === '' ? '' : `:${port}`;
  const local = ['127.0.0.1', 'localhost', '[::1]'];
  const allowedHosts = local.includes(hostname) ? local.map((name) => `${name}${suffix}`) : [host];
  return {
    publicUrl: `${protocol}//${host}`,
    allowedHosts,
    bodyLimitBytes: 1_048_576,
    bodyDepthLimit: 64,
    ...usualLimits,
    trustedProxies: [],
    drainSeconds: 5,
  };
}

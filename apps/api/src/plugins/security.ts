import { AppError } from '@cdaas/contract/errors.ts';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest } from 'fastify';

export type SecuritySettings = {
  /** Hosts as in the Host header, lower case, with the port where it is not the scheme's own. */
  allowedHosts: readonly string[];
  /** Of one principal, or of one address where nobody is signed in. */
  requestsPerMinute: number;
  /** `https:` turns on Strict-Transport-Security. */
  publicUrl: string;
};

/** Headers, the check of Host and Origin, and the one rate limit. Signing in must have run before: the limit counts by principal. */
export async function installSecurity(app: FastifyInstance, settings: SecuritySettings): Promise<void> {
  const https = settings.publicUrl.startsWith('https:');
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] },
    },
    strictTransportSecurity: https ? { maxAge: 31_536_000, includeSubDomains: false } : false,
    referrerPolicy: { policy: 'no-referrer' },
  });
  app.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store');
    checkHost(request, settings.allowedHosts);
  });
  await app.register(rateLimit, {
    global: true,
    max: settings.requestsPerMinute,
    timeWindow: 60_000,
    // What people do to a run has a count of its own: a program that asks too often with the same credentials must not keep
    // a person from rolling back.
    keyGenerator: ({ claims, ip, routeOptions }) =>
      `${claims?.credentialId ?? ip}${claims !== null && routeOptions.config.intervenes === true ? ' intervenes' : ''}`,
    errorResponseBuilder: (_request, { ttl }) =>
      new AppError('rate.limited', `Too many requests: at most ${settings.requestsPerMinute} a minute.`, {
        retryAfterSeconds: Math.max(1, Math.ceil(ttl / 1000)),
      }),
  });
}

/**
 * A browser that was led to this server under a foreign name (DNS rebinding), or by a foreign page, says so in Host or
 * Origin. Probes ask by address and learn nothing, so they may.
 */
function checkHost(request: FastifyRequest, allowedHosts: readonly string[]): void {
  if (request.routeOptions.config.anyHost === true) return;
  const host = (request.headers.host ?? '').toLowerCase();
  if (!allowedHosts.includes(host)) {
    throw new AppError('request.host', 'This server does not answer under the name it was called by.', {
      hint: `Call it as ${allowedHosts[0]}; PUBLIC_URL sets the name.`,
    });
  }
  const origin = request.headers.origin;
  if (origin !== undefined && !allowedHosts.includes(origin.toLowerCase().replace(/^https?:\/\//, ''))) {
    throw new AppError('request.host', 'Pages of other sites may not call this server.');
  }
}

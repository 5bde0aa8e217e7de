import { AppError } from '@cdaas/contract/errors.ts';
import { type Permission, requirePermission } from '@cdaas/control-plane/permissions.ts';
import { type CallerContext, type Claims, type Principal, resolvePrincipal } from '@cdaas/control-plane/principals.ts';
import { verifyToken } from '@cdaas/control-plane/tokens.ts';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ApiDeps } from '../deps.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the caller must be allowed to do; `public` only for the routes of `publicRoutes`. */
    permission?: Permission | 'public';
    /** Probes call it by address, so the Host header is not checked. */
    anyHost?: boolean;
    /** Somebody turns, stops or lets go on a run: counted apart by the rate limit. */
    intervenes?: boolean;
    /** Logged at debug only. */
    quiet?: boolean;
    /** Stays open; its duration says nothing. */
    stream?: boolean;
  }
  interface FastifyRequest {
    /** Of a token that is good; null before and without one. */
    claims: Claims | null;
    /** What use cases take; there on every route that is not public. */
    caller: CallerContext | null;
  }
}

/** The closed list of routes that need no credentials. test/integration/tenancy.test.ts holds it. */
export const publicRoutes: readonly string[] = [
  '/healthz',
  '/readyz',
  '/oauth/token',
  '/.well-known/jwks.json',
  '/openapi.json',
  '/clusters/rbac.yaml',
];

/**
 * Signs callers in and checks what they may do. Signature and lifetime of the token are checked first, so that the rate
 * limit can count by principal; the grants are then read from the database at every request. A route that declares no
 * permission stops the app from starting.
 */
export function installAuth(app: FastifyInstance, deps: ApiDeps): void {
  app.decorateRequest('claims', null);
  app.decorateRequest('caller', null);

  app.addHook('onRoute', ({ url, method, config }) => {
    const permission = config?.permission;
    if (permission === undefined) throw new Error(`route ${String(method)} ${url} declares no permission`);
    if ((permission === 'public') !== publicRoutes.includes(url)) {
      throw new Error(`route ${String(method)} ${url} and the list of public routes disagree`);
    }
  });

  app.addHook('onRequest', async (request) => {
    if (request.is404 || permissionOf(request) === 'public') return;
    const token = bearerOf(request);
    if (token === undefined) return;
    const issuer = deps.settings.publicUrl;
    request.claims = await verifyToken({ db: deps.db, signingKeys: deps.signingKeys, issuer }, token);
  });

  app.addHook('preParsing', async (request) => {
    const permission = permissionOf(request);
    if (request.is404 || permission === 'public') return;
    const principal = request.claims === null ? null : await resolvePrincipal(deps.db, request.claims);
    if (principal === null) {
      throw new AppError('auth.missing', 'no valid auth credentials', {
        hint: 'Send `Authorization: Bearer <token>` with a token from POST /oauth/token.',
      });
    }
    requirePermission(principal, permission);
    request.caller = callerContext(deps, principal, request);
  });
}

/** The context of a request that passed the check above. */
export function callerOf(request: FastifyRequest): CallerContext {
  if (request.caller === null) throw new Error(`route ${request.routeOptions.url} is public and has no caller`);
  return request.caller;
}

function permissionOf(request: FastifyRequest): Permission | 'public' {
  const { permission } = request.routeOptions.config;
  if (permission === undefined && !request.is404) throw new Error('a route without a permission');
  return permission ?? 'public';
}

function bearerOf(request: FastifyRequest): string | undefined {
  const match = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(request.headers.authorization ?? '');
  return match?.[1];
}

function callerContext(deps: ApiDeps, principal: Principal, request: FastifyRequest): CallerContext {
  const { organisationId, tenantId, clientId, name, permissions } = principal;
  return {
    scope: { organisationId, tenantId },
    actor: { principal: clientId, name },
    permissions,
    log: deps.log.child({ requestId: request.id, orgId: organisationId, tenantId }),
    clock: deps.db.clock,
    db: deps.db,
    queue: deps.queue,
    vault: deps.vault,
    outbound: deps.outbound,
    publicUrl: deps.settings.publicUrl,
    clustersPerTenant: deps.settings.clustersPerTenant,
    drainSeconds: deps.settings.drainSeconds,
  };
}

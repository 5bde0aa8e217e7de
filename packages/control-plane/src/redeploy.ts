import { AppError } from '@cdaas/contract/errors.ts';
import type { RedeployRequest } from '@cdaas/contract/pipelines.ts';
import { storedId } from '@cdaas/contract/text.ts';
import type { FileText } from '@cdaas/pipeline/file/parse.ts';
import { shorten } from '@cdaas/pipeline/file/words.ts';
import { requirePermission } from './permissions.ts';
import { getPipelineConfig } from './pipelines.ts';
import type { CallerContext } from './principals.ts';

/**
 * What X-Armory-Config-Location names (spec/cli-wire-protocol.md §3.2): `armory::<address>/pipelines/<id>/config`. The
 * address is the one that the client reached this server by, through whatever proxies; nothing is fetched from it, so it
 * is not looked at.
 *
 * @returns the pipeline's id, still to be looked up as the caller
 * @throws AppError field.required, step.unsupported for an http or https URL, request.invalid for anything else
 */
export function pipelineOfLocation(location: string | undefined): string {
  if (location === undefined || location.trim() === '') {
    throw new AppError('field.required', 'The header X-Armory-Config-Location is required with this media type.', {
      hint: 'Send armory::<address of this server>/pipelines/<id>/config, or the deployment file itself as JSON or YAML.',
    });
  }
  const id = /^armory::https?:\/\/[^/?#\s]+\/pipelines\/([^/?#\s]+)\/config$/.exec(location)?.[1];
  if (id !== undefined) return storedId(id);
  if (/^https?:\/\//i.test(location)) {
    throw new AppError('step.unsupported', `not supported yet: starting from a URL (${withoutSecrets(location)})`, {
      hint: 'Send the deployment file itself.',
    });
  }
  throw new AppError('request.invalid', 'The header X-Armory-Config-Location is not a location of a configuration.', {
    hint: 'It has the form armory::<address of this server>/pipelines/<id>/config.',
  });
}

/** Where a URL leads, without user, password and query, which may be credentials. */
function withoutSecrets(location: string): string {
  const url = URL.parse(location);
  return url === null ? 'which cannot be read' : shorten(`${url.origin}${url.pathname}`);
}

/**
 * The start request of an earlier pipeline with what is given now in its place, ready to be started like any other. What
 * is not given (absent, null, an empty account) stays as it was then, so that a redeploy never reaches further than the
 * start it repeats; an empty list of targetFilters asks for every target.
 *
 * @throws AppError not.found where the caller's tenant has no such pipeline, auth.forbidden
 */
export async function redeploySource(
  ctx: CallerContext,
  { id, account, targetFilters, context }: { id: string } & RedeployRequest,
): Promise<FileText> {
  // Who may not start is shown masked Secrets, which must never reach a cluster.
  for (const permission of ['deployment.view', 'deployment.start'] as const) {
    requirePermission({ name: ctx.actor.name, permissions: ctx.permissions }, permission);
  }
  const config = await getPipelineConfig(ctx, { id });
  const changes = {
    ...(account ? { account } : {}),
    ...(targetFilters ? { targetFilters } : {}),
    ...(context ? { context: { ...(config.context as object | null | undefined), ...context } } : {}),
  };
  return { json: JSON.stringify({ ...config, ...changes }) };
}

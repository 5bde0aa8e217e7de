import { deniedByAdmission } from '@cdaas/pipeline/deployment-state.ts';
import { statusMessage, statusReason } from './kube-answer.ts';
import type { Answered, AskedFor } from './kube-exchange.ts';

/** Reason of a refusal that is not the cluster's but of its registration, which does not allow it. */
export const outsideRegistration = 'OutsideRegistration';

/**
 * Why a cluster refused something, in words that name what was asked for; its own words are shown as they came.
 *
 * @param body of the answer, without secrets
 */
export function refusalWords({ status, asked }: Answered, body: unknown): { reason: string; message: string } {
  const said = statusMessage(body);
  const reason = statusReason(body) ?? '';
  const what = asked === undefined ? '' : describe(asked);
  if (status === 401) {
    return { reason, message: `the cluster does not accept the credential${what && `, asked to ${what}`}` };
  }
  if (status === 403) {
    if (reason === outsideRegistration) return { reason, message: said };
    if (isAdmission(said)) return { reason: deniedByAdmission, message: said };
    const words = what ? `the credential may not ${what}` : 'the credential may not do this';
    return { reason, message: said === '' ? words : `${words}: ${said}` };
  }
  if (status === 429 || status >= 500) {
    const words = said || 'the cluster gave no reason';
    return { reason, message: what ? `${words}, asked to ${what}` : words };
  }
  return { reason, message: said || `the cluster gave no reason${what && `, asked to ${what}`}` };
}

function describe({ verb, resource, namespace, name }: AskedFor): string {
  const where = namespace === undefined ? '' : ` in namespace ${namespace}`;
  return `${verb} ${resource}${name === undefined ? '' : ` ${name}`}${where}`;
}

/**
 * Authorizers say who may not do it (`User "x" cannot patch resource …`); after the same beginning admission says why. What
 * is neither is taken for a missing right: to hold is never wrong.
 */
function isAdmission(said: string): boolean {
  return /\bis forbidden: (?!User ")/.test(said) || said.startsWith('admission webhook ');
}

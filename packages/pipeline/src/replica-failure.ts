import type { KubernetesObject } from './kubernetes.ts';

/** Of the words of an admission that refuses a pod: what it says after the pod's name, which is another at each try. */
const longest = 200;

/**
 * Why a ReplicaSet gets no more pods, as its condition ReplicaFailure says (a quota, a policy); undefined where it gets
 * them. No pod shows it: those that were refused do not exist.
 */
export function replicaFailureOf({ status }: KubernetesObject): string | undefined {
  type Condition = { type?: string; status?: string; reason?: string; message?: string };
  const { conditions } = (status ?? {}) as { conditions?: Condition[] };
  if (!Array.isArray(conditions)) return undefined;
  const failure = conditions.find(({ type, status: value }) => type === 'ReplicaFailure' && value === 'True');
  if (!failure) return undefined;
  const said = typeof failure.message === 'string' ? failure.message : '';
  const [, why] = /is forbidden: (.*)/s.exec(said) ?? [];
  // Brackets set off what is told in them.
  const words = (why ?? failure.reason ?? 'it cannot make pods').replaceAll(/[()]/g, '');
  return words.slice(0, longest);
}

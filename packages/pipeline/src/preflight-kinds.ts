import { isRecord } from './is-record.ts';
import type { KubernetesObject } from './kubernetes.ts';
import type { Look } from './preflight-look.ts';

/** Objects of kinds that the cluster does not serve, and that no definition in the same file brings. */
export function checkKinds({ plan, seen, say }: Look): void {
  for (const index of seen.unserved ?? []) {
    const object = plan.objects[index];
    if (!object || plan.objects.some((other) => defines(other, object))) continue;
    const { apiVersion, kind, metadata } = object;
    const name = metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
    say(
      `${kind} ${name}`,
      `the cluster does not serve ${kind} of ${apiVersion}; install what defines it, or write a version that is served`,
    );
  }
}

function defines({ kind, spec }: KubernetesObject, object: KubernetesObject): boolean {
  if (kind !== 'CustomResourceDefinition' || !isRecord(spec) || !isRecord(spec.names)) return false;
  return spec.names.kind === object.kind && spec.group === object.apiVersion.split('/')[0];
}

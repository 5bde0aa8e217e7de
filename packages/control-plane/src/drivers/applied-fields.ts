import { isRecord } from '@cdaas/pipeline/is-record.ts';
import { fieldManager } from '@cdaas/pipeline/marks.ts';

/**
 * The managers of an object that this control plane created by POST, as if it had been applied; undefined where nothing
 * is to be changed. What a POST sets is managed apart from what an apply sets, so that a later apply would leave a field in
 * place that the manifest names no longer; kubectl hands fields over in the same way (client-go, csaupgrade). The object is
 * created by POST all the same, because an apply cannot be told to fail where an object of that name stands in the way.
 *
 * @param body of the POST's answer, whole: what is made of it elsewhere leaves managers out
 */
export function managersAsApplied(body: unknown): unknown[] | undefined {
  const metadata = isRecord(body) && isRecord(body.metadata) ? body.metadata : {};
  const entries: unknown[] = Array.isArray(metadata.managedFields) ? metadata.managedFields : [];
  const own = entries.filter((entry) => isRecord(entry) && entry.manager === fieldManager && !entry.subresource);
  const [only] = own;
  if (own.length !== 1 || !isRecord(only) || only.operation !== 'Update') return undefined;
  return entries.map((entry) => (entry === only ? { ...only, operation: 'Apply' } : entry));
}

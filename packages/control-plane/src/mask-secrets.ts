import { isRecord } from '@cdaas/pipeline/is-record.ts';
import { parseAllDocuments, stringify } from 'yaml';

/** What stands for a value that must not be shown. */
export const masked = '(masked)';

/**
 * A start request for somebody who may see it but not start: the values of `data` and `stringData` of every Secret in its
 * manifests are masked. Text that cannot be read is masked whole.
 */
export function maskSecrets(config: Record<string, unknown>): Record<string, unknown> {
  const { manifests, files } = config;
  const shown = { ...config };
  if (Array.isArray(manifests)) {
    shown.manifests = manifests.map((manifest: unknown) =>
      isRecord(manifest) && typeof manifest.inline === 'string'
        ? { ...manifest, inline: maskManifest(manifest.inline) }
        : manifest,
    );
  }
  if (isRecord(files)) {
    shown.files = Object.fromEntries(
      Object.entries(files).map(([path, texts]) => [
        path,
        Array.isArray(texts)
          ? texts.map((text: unknown) => (typeof text === 'string' ? maskManifest(text) : text))
          : texts,
      ]),
    );
  }
  return shown;
}

/** One manifest text, its Secrets masked; untouched where it has none. What cannot be read is masked whole. */
export function maskManifest(text: string): string {
  // Duplicate keys were refused at the start; looking for them again is quadratic.
  const documents = parseAllDocuments(text, { logLevel: 'silent', uniqueKeys: false, merge: true });
  if (!Array.isArray(documents)) return text;
  if (documents.some((document) => document.errors.length > 0)) return masked;
  // As values and not as nodes: escapes, anchors and merge keys are resolved, so that none of them hides a Secret. How much
  // aliases may unfold to was bounded at the start.
  const values = documents.map((document): unknown => document.toJS({ maxAliasCount: -1 }));
  const shown = values.map(maskObject);
  if (shown.every((value, index) => value === values[index])) return text;
  return shown.map((value) => stringify(value)).join('---\n');
}

/** The same object where it holds no Secret; else a copy with their values masked. */
function maskObject(value: unknown): unknown {
  if (!isRecord(value)) return value;
  if (Array.isArray(value.items)) {
    const items = value.items.map(maskObject);
    if (items.some((item, index) => item !== (value.items as unknown[])[index])) return { ...value, items };
  }
  if (value.kind !== 'Secret') return value;
  const hidden = { ...value };
  for (const field of ['data', 'stringData']) {
    if (isRecord(value[field])) {
      hidden[field] = Object.fromEntries(Object.keys(value[field]).map((key) => [key, masked]));
    } else if (value[field] !== undefined) hidden[field] = masked;
  }
  if (isRecord(value.metadata) && isRecord(value.metadata.annotations)) {
    const { 'kubectl.kubernetes.io/last-applied-configuration': _applied, ...annotations } = value.metadata.annotations;
    hidden.metadata = { ...value.metadata, annotations };
  }
  return hidden;
}

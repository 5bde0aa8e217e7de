import { type Document, isMap, isSeq, type Node, parseAllDocuments } from 'yaml';

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

/** One manifest text, its Secrets masked; untouched where it has none. */
export function maskManifest(text: string): string {
  if (!/secret/i.test(text)) return text;
  const documents = parseAllDocuments(text, { logLevel: 'silent' });
  if (!Array.isArray(documents)) return text;
  if (documents.some((document) => document.errors.length > 0)) return masked;
  const found = documents.map((document) => maskNode(document, document.contents));
  if (!found.some(Boolean)) return text;
  return documents.map(String).join('---\n');
}

/** Masks a Secret, or the Secrets in a list. @returns whether there was one */
function maskNode(document: Document, node: Node | null): boolean {
  if (!isMap(node)) return false;
  const items = node.get('items', true);
  if (isSeq(items)) return items.items.map((item) => maskNode(document, item as Node)).some(Boolean);
  if (node.get('kind') !== 'Secret') return false;
  for (const field of ['data', 'stringData']) {
    const values = node.get(field, true);
    if (isMap(values)) {
      for (const pair of values.items) pair.value = document.createNode(masked);
    } else if (values !== undefined) node.set(field, masked);
  }
  const annotations = node.getIn(['metadata', 'annotations'], true);
  if (isMap(annotations)) annotations.delete('kubectl.kubernetes.io/last-applied-configuration');
  return true;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

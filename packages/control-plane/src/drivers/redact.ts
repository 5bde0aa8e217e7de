import type { KubernetesObject } from '@cdaas/pipeline/kubernetes.ts';

/** Shorter values are words that turn up anywhere, and hide nothing worth hiding. */
const shortest = 4;

/**
 * A text of a cluster without the values of the Secrets among these objects, in any of the forms in which a server repeats
 * what it was sent: as they are, in base64, and escaped as within JSON. Redact before a text is cut, or half a value stays.
 */
export function redactSecrets(text: string, objects: readonly KubernetesObject[]): string {
  const forms = objects.filter(({ kind }) => kind === 'Secret').flatMap(formsOf);
  // The longest first: a value may be part of another.
  const ordered = [...new Set(forms)].filter((form) => form.length >= shortest).sort((a, b) => b.length - a.length);
  return ordered.reduce((redacted, form) => redacted.replaceAll(form, '[redacted]'), text);
}

function formsOf({ data, stringData }: KubernetesObject): string[] {
  const plain = valuesOf(stringData);
  const encoded = valuesOf(data);
  const values = [...plain, ...encoded.map((value) => Buffer.from(value, 'base64').toString())];
  return [
    ...encoded,
    ...values.flatMap((value) => [value, JSON.stringify(value).slice(1, -1), Buffer.from(value).toString('base64')]),
  ];
}

function valuesOf(field: unknown): string[] {
  // Not what it must be, and a secret all the same.
  if (typeof field === 'string') return [field];
  if (typeof field !== 'object' || field === null) return [];
  return Object.values(field).filter((value) => typeof value === 'string');
}

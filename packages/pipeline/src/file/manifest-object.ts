import { isRecord } from '../is-record.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { kindProblem } from './kinds.ts';
import { groupOf, isApiVersion, isDnsLabel, isDnsSubdomain, isKind, isPathSegment } from './kubernetes-names.ts';
import type { Path } from './source.ts';
import { at, entries, exists, type View } from './view.ts';
import type { FileErrorCode } from './violations.ts';
import { toWords } from './words.ts';

/** Reports a mistake in one object of a manifest; `field` is the path inside the object. */
export type Refuse = (code: FileErrorCode, field: Path, message: string, hint?: string) => void;

/** What holds for every object: apiVersion, kind, name, and labels and annotations that are texts. */
export function checkObject(view: View, refuse: Refuse): void {
  if (!isRecord(view.value)) return refuse('manifest.object', [], 'not a valid Kubernetes object: it is not a mapping');
  const apiVersion = checkWord(view, 'apiVersion', isApiVersion, refuse);
  const kind = checkWord(view, 'kind', isKind, refuse);
  const problem = apiVersion === undefined || kind === undefined ? undefined : kindProblem(groupOf(apiVersion), kind);
  // What is no object has no name either; that would only mislead.
  if (problem !== undefined) return refuse('manifest.kind', ['kind'], problem.message, problem.hint);
  checkMetadata(at(view, 'metadata'), kind, refuse);
}

function checkWord(view: View, key: string, isValid: (word: string) => boolean, refuse: Refuse): string | undefined {
  const { value } = at(view, key);
  if (value === undefined || value === null || value === '')
    refuse('manifest.object', [], `not a valid Kubernetes object: ${key} is missing`);
  else if (typeof value !== 'string' || !isValid(value))
    refuse('manifest.object', [key], `not a valid Kubernetes object: ${key} is not valid`);
  else return value;
  return undefined;
}

function checkMetadata(metadata: View, kind: string | undefined, refuse: Refuse): void {
  if (!isRecord(metadata.value))
    return refuse('manifest.object', ['metadata'], 'not a valid Kubernetes object: metadata.name is missing');
  const { value: name } = at(metadata, 'name');
  if (typeof name !== 'string' || name === '') {
    const hint = exists(at(metadata, 'generateName'))
      ? 'generateName is not supported: a later deployment must find the object again'
      : undefined;
    refuse('manifest.object', ['metadata', 'name'], 'not a valid Kubernetes object: metadata.name is missing', hint);
  } else if (!nameRule(kind)(name)) {
    refuse('manifest.object', ['metadata', 'name'], 'metadata.name is not a valid name for this kind (a-z, 0-9 and -)');
  }
  const { value: namespace } = at(metadata, 'namespace');
  if (namespace !== undefined && namespace !== null && (typeof namespace !== 'string' || !isDnsLabel(namespace))) {
    refuse(
      'manifest.object',
      ['metadata', 'namespace'],
      'metadata.namespace is not a valid name (at most 63 of a-z, 0-9 and -)',
    );
  }
  for (const field of ['labels', 'annotations']) checkTexts(at(metadata, field), ['metadata', field], refuse);
}

function nameRule(kind: string | undefined): (name: string) => boolean {
  if (kind === 'Deployment' || kind === 'Service' || kind === 'Namespace') return isDnsLabel;
  return kind === 'ConfigMap' || kind === 'Secret' ? isDnsSubdomain : isPathSegment;
}

/** Labels and annotations are texts; `version: 1.0` without quotes is a number. */
export function checkTexts(view: View, field: Path, refuse: Refuse): void {
  if (view.value === undefined || view.value === null) return;
  if (!isRecord(view.value)) return refuse('manifest.object', field, `${toWords(field)} must be a mapping`);
  for (const [key, entry] of entries(view)) {
    if (typeof entry.value !== 'string' && entry.value !== null) {
      refuse('manifest.object', [...field, key], `${toWords([...field, key])} must be a text`, 'put it in quotes');
    }
  }
}

const serverFields = [
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'managedFields',
  'selfLink',
];

/** Manifests taken from a cluster carry what only the cluster may set. */
export function withoutServerFields(object: KubernetesObject): { object: KubernetesObject; removed: string[] } {
  const metadata = Object.entries(object.metadata).filter(
    ([key, value]) => !serverFields.includes(key) && value !== null,
  );
  const removed = serverFields.filter((key) => object.metadata[key] !== undefined && object.metadata[key] !== null);
  const { status, ...rest } = object;
  if (status !== undefined && status !== null) removed.push('status');
  return { object: { ...rest, metadata: Object.fromEntries(metadata) } as KubernetesObject, removed };
}

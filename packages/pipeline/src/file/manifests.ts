import { isRecord } from '../is-record.ts';
import type { KubernetesObject } from '../kubernetes.ts';
import { didYouMean } from './hints.ts';
import { groupOf } from './kubernetes-names.ts';
import { checkObject, type Refuse, withoutServerFields } from './manifest-object.ts';
import { type Budget, type LocatedDocument, locate, type Path, type Position } from './source.ts';
import { at, exists, items, keys, text, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten, toWords } from './words.ts';
import { checkWorkload } from './workload.ts';
import { readYaml } from './yaml-source.ts';

/** One object of the manifests as written. `refuse` reports a mistake in it at the right document, line and column. */
export type ManifestObject = { object: KubernetesObject; refuse: Refuse };

/** `complete`: all that was written could be read. */
type ReadObjects = { objects: ManifestObject[]; complete: boolean };

/** The objects of one entry of `manifests`; `targets` undefined means all. */
export type ManifestEntry = ReadObjects & { targets: Set<string> | undefined };

/**
 * Reads every manifest (spec/deployment-file.md §5), each text once, and reports what is wrong with each object. No message
 * holds a value of a manifest other than kinds and names: it may be a secret.
 */
export function readManifests(budget: Budget, root: View, report: Report): ManifestEntry[] {
  const readPaths = new Map<string, ReadObjects>();
  const read = items(at(root, 'manifests')).map((entry) => {
    const listed = items(at(entry, 'targets')).flatMap((item) => text(item) ?? []);
    const names = listed.length > 0 ? new Set(listed) : undefined;
    const path = exists(at(entry, 'inline')) ? undefined : text(at(entry, 'path'));
    const known = path === undefined ? undefined : readPaths.get(path);
    if (known !== undefined) return { targets: names, ...known };
    const before = report.count();
    const objects = readEntry(budget, root, entry, report);
    const found = { objects, complete: report.count() === before && isReadable(entry) };
    if (path !== undefined) readPaths.set(path, found);
    return { targets: names, ...found };
  });
  for (const path of keys(at(root, 'files'))) {
    if (path === '' || readPaths.has(path)) continue;
    report.warning(['files', path], `files['${shorten(path)}'] is named by no manifest and is ignored`);
  }
  return read;
}

/** Whether its text is here; what is wrong with its shape was told by the schema. */
function isReadable(entry: View): boolean {
  const path = text(at(entry, 'path'));
  return path === undefined ? text(at(entry, 'inline')) !== undefined : !isUrl(path);
}

function readEntry(budget: Budget, root: View, entry: View, report: Report): ManifestObject[] {
  if (!isRecord(entry.value)) return [];
  const path = at(entry, 'path');
  const inline = at(entry, 'inline');
  if (exists(path) === exists(inline)) {
    const message = `${toWords(entry.path)} needs exactly one of path and inline, and has ${exists(path) ? 'both' : 'neither'}`;
    report.violation('manifest.choice', entry.path, message);
    return [];
  }
  const yaml = text(inline);
  if (yaml !== undefined) return readText(budget, yaml, inline.path, toWords(inline.path), report);
  const name = text(path);
  return name === undefined || isUrl(name) ? [] : readPath(budget, root, name, path.path, report);
}

/** What was sent under a path. `where`: the field that names it. */
function readPath(budget: Budget, root: View, path: string, where: Path, report: Report): ManifestObject[] {
  const files = at(root, 'files');
  const contents = at(files, path);
  const title = `manifest '${shorten(path)}'`;
  if (path === '' || !exists(contents)) {
    const send = `send its text in files['${shorten(path)}'], as a list with one entry for each file`;
    const hint = didYouMean(path, keys(files)) ?? send;
    report.violation('manifest.missing', where, `${title} is not among the files that were sent`, { hint });
    return [];
  }
  const texts = items(contents);
  if (texts.length === 0 && Array.isArray(contents.value)) {
    const isOtherFile = /\.[A-Za-z]+$/.test(path) && !/\.ya?ml$/.test(path);
    if (isOtherFile) {
      report.violation('manifest.missing', where, `${title} was not read: only files that end in .yaml or .yml are`);
    } else report.warning(where, `${title} holds no .yaml or .yml file`);
  }
  return texts.flatMap((content, index) => {
    const words = `${shorten(path)}${texts.length > 1 ? ` (file ${index + 1})` : ''}`;
    return readText(budget, text(content) ?? '', content.path, words, report);
  });
}

/** A path with scheme and host is fetched by the server, not sent along. */
export function isUrl(path: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\/[^/]/i.test(path);
}

/** The objects of one text: documents split, empty ones skipped, lists opened. */
function readText(budget: Budget, yaml: string, path: Path, words: string, report: Report): ManifestObject[] {
  const read = readYaml(yaml, 'manifest', budget);
  if ('problems' in read) {
    for (const { message, document, position } of read.problems) {
      const at = [
        ...(document === undefined ? [] : [`document ${document}`]),
        ...(position === undefined ? [] : [lineWords(path, position)]),
      ];
      report.violation('manifest.object', path, `${[words, ...at].join(', ')}: ${message}`, { inManifest: position });
    }
    return [];
  }
  return read.documents.flatMap((document, index) => {
    if (document.value === null) return [];
    const root = { value: document.value, path: [] };
    return expandList(root).flatMap((view) => readObject(view, document, index + 1, path, words, report));
  });
}

/** What stands inline has two lines: that of the deployment file is told apart. */
function lineWords(path: Path, { line }: Position): string {
  return path[0] === 'files' ? `line ${line}` : `line ${line} of the manifest`;
}

/** `kind: List` (and `ConfigMapList` and so on) is a wrapping of tools, not an object of a cluster. */
function expandList(view: View): View[] {
  const kind = text(at(view, 'kind'));
  if (kind?.endsWith('List') !== true || !Array.isArray(at(view, 'items').value)) return [view];
  return items(at(view, 'items')).flatMap(expandList);
}

function readObject(
  view: View,
  document: LocatedDocument,
  number: number,
  path: Path,
  words: string,
  report: Report,
): ManifestObject[] {
  const kind = text(at(view, 'kind'));
  const name = text(at(view, 'metadata', 'name'));
  const title = kind === undefined || name === undefined ? '' : `, ${shorten(kind)} '${shorten(name)}'`;
  let sound = true;
  const refuse: Refuse = (code, field, message, hint) => {
    sound = false;
    const { position } = locate(document, [...view.path, ...field], false);
    const line = position === undefined ? '' : `, ${lineWords(path, position)}`;
    report.violation(code, path, `${words}, document ${number}${line}${title}: ${message}`, {
      inManifest: position,
      hint,
    });
  };
  checkObject(view, refuse);
  if (!sound) return [];
  const { object, removed } = withoutServerFields(view.value as KubernetesObject);
  if (removed.length > 0)
    report.warning(
      path,
      `${words}, document ${number}${title}: ${removed.join(', ')} belong to the cluster and are left out`,
    );
  if (kind === 'Deployment' && /^(apps|extensions)$/.test(groupOf(object.apiVersion)))
    checkWorkload(object, refuse, (text) => report.warning(path, `${words}, document ${number}${title}: ${text}`));
  return sound ? [{ object, refuse }] : [];
}

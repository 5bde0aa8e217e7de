import type { KubernetesObject } from '../kubernetes.ts';
import { didYouMean } from './hints.ts';
import { groupOf } from './kubernetes-names.ts';
import { checkObject, type Refuse, withoutServerFields } from './manifest-object.ts';
import { type Budget, type LocatedDocument, locate, type Path } from './source.ts';
import { at, exists, isMapping, items, keys, text, type View } from './view.ts';
import { type Report, shorten, toWords } from './violations.ts';
import { checkWorkload } from './workload.ts';
import { readYaml } from './yaml-source.ts';

/** One object of the manifests as written. `refuse` reports a mistake in it at the right document, line and column. */
export type ManifestObject = { object: KubernetesObject; refuse: Refuse };

/** The objects of one entry of `manifests`; `targets` undefined means all. */
export type ManifestEntry = { targets: Set<string> | undefined; objects: ManifestObject[] };

/**
 * Reads every manifest (spec/deployment-file.md §5), each text once, and reports what is wrong with each object. No message
 * holds a value of a manifest other than kinds and names: it may be a secret.
 */
export function readManifests(budget: Budget, root: View, report: Report): ManifestEntry[] {
  const readFiles = new Map<string, ManifestObject[]>();
  const used = new Set<string>();
  const read = items(at(root, 'manifests')).map((entry) => {
    const targets = at(entry, 'targets');
    const names = exists(targets) ? new Set(items(targets).flatMap((item) => text(item) ?? [])) : undefined;
    return { targets: names, objects: readEntry(entry) };
  });
  for (const path of keys(at(root, 'files'))) {
    if (path !== '' && !used.has(path))
      report.warning(['files', path], `files['${shorten(path)}'] is named by no manifest and is ignored`);
  }
  return read;

  function readEntry(entry: View): ManifestObject[] {
    if (!isMapping(entry.value)) return [];
    const path = text(at(entry, 'path'));
    const inline = text(at(entry, 'inline'));
    const count = [at(entry, 'path'), at(entry, 'inline')].filter(exists).length;
    if (count !== 1) {
      const got = count === 0 ? 'neither' : 'both';
      report.violation(
        'manifest.choice',
        entry.path,
        `${toWords(entry.path)} needs exactly one of path and inline, and has ${got}`,
      );
      return [];
    }
    if (inline !== undefined)
      return readText(budget, inline, at(entry, 'inline').path, toWords(at(entry, 'inline').path), report);
    if (path === undefined || isUrl(path)) return [];
    used.add(path);
    const known = readFiles.get(path);
    if (known !== undefined) return known;
    const objects = readPath(path, entry);
    readFiles.set(path, objects);
    return objects;
  }

  function readPath(path: string, entry: View): ManifestObject[] {
    const contents = at(root, 'files', path);
    const where = at(entry, 'path').path;
    if (path === '' || !exists(contents)) {
      const hint =
        didYouMean(path, keys(at(root, 'files'))) ??
        `send its text in files['${shorten(path)}'], as a list with one entry for each file`;
      report.violation('manifest.missing', where, `manifest '${shorten(path)}' is not among the files that were sent`, {
        hint,
      });
      return [];
    }
    if (Array.isArray(contents.value) && contents.value.length === 0) {
      if (/\.[A-Za-z]+$/.test(path) && !/\.ya?ml$/.test(path)) {
        report.violation(
          'manifest.missing',
          where,
          `manifest '${shorten(path)}' was not read: only files that end in .yaml or .yml are`,
        );
      } else report.warning(where, `manifest '${shorten(path)}' holds no .yaml or .yml file`);
    }
    return items(contents).flatMap((content, index) => {
      const words = `${shorten(path)}${items(contents).length > 1 ? ` (file ${index + 1})` : ''}`;
      return readText(budget, text(content) ?? '', content.path, words, report);
    });
  }
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
        ...(position === undefined ? [] : [`line ${position.line}`]),
      ];
      report.violation('manifest.object', path, `${[words, ...at].join(', ')}: ${message}`, {
        inManifest: position ?? {},
      });
    }
    return [];
  }
  return read.documents.flatMap((document, index) => {
    if (document.value === null) return [];
    const root = { value: document.value, path: [] };
    return expandList(root).flatMap((view) => readObject(view, document, index + 1, path, words, report));
  });
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
    const line = position === undefined ? '' : `, line ${position.line}`;
    report.violation(code, path, `${words}, document ${number}${line}${title}: ${message}`, {
      inManifest: position ?? {},
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

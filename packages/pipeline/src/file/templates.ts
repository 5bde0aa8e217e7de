import { didYouMean } from './hints.ts';
import { knownKeys } from './schema-violations.ts';
import type { Path } from './source.ts';
import { at, entries, items, text, type View } from './view.ts';
import type { Report } from './violations.ts';
import { shorten, toWords } from './words.ts';

/** Where a template stands: Q a metric query, W a webhook, X anything else (spec/deployment-file.md §11). */
type TemplatePlace = 'Q' | 'W' | 'X';

const inQueriesAndWebhooks = [
  'applicationName',
  'deploymentId',
  'environmentName',
  'replicaSetName',
  'accountName',
  'namespace',
];
const inQueries = [
  'startTimeIso8601',
  'startTimeEpochSeconds',
  'startTimeEpochMillis',
  'endTimeIso8601',
  'endTimeEpochSeconds',
  'endTimeEpochMillis',
  'intervalSeconds',
  'intervalMillis',
  'promQlStepInterval',
];
const armoryNames: Record<TemplatePlace, readonly string[]> = {
  Q: [...inQueriesAndWebhooks, ...inQueries].map((name) => `armory.${name}`),
  W: [...inQueriesAndWebhooks, 'callbackUri'].map((name) => `armory.${name}`),
  X: [],
};

/** One `{{…}}` of a text: the name inside, or undefined where it is not a plain variable. */
type Tag = { name: string | undefined; closed: boolean };

/** The tags of a text, found in one pass. */
export function templateTags(template: string): Tag[] {
  const tags: Tag[] = [];
  let from = 0;
  for (;;) {
    const start = template.indexOf('{{', from);
    if (start < 0) return tags;
    const end = template.indexOf('}}', start + 2);
    if (end < 0) return [...tags, { name: undefined, closed: false }];
    const name = template.slice(start + 2, end).trim();
    tags.push({ name: /^[A-Za-z_][\w-]*(\.[\w-]+)*$/.test(name) ? name : undefined, closed: true });
    from = end + 2;
  }
}

/** True where a text asks for a secret; `${{ secrets.x }}` belongs to CI systems and is left alone. */
export function usesSecret(template: string): boolean {
  return /(?<!\$)\{\{\s*secrets\./.test(template);
}

/** Reports every template variable that does not exist where it is used, and every tag that is not a plain variable. */
export function checkTemplates(root: View, report: Report): void {
  for (const view of templateTexts(root)) {
    const place = placeOf(view.path);
    for (const tag of templateTags(view.value)) {
      // Only there is it surely meant as a template.
      if (!tag.closed && place === 'X') continue;
      const problem = problemOf(tag, place);
      if (problem === undefined) continue;
      const hint = tag.name === undefined ? undefined : didYouMean(tag.name, [...armoryNames[place]]);
      report.violation('template.variable', view.path, `${toWords(view.path)}: ${problem}`, { hint });
    }
  }
}

function problemOf({ name, closed }: Tag, place: TemplatePlace): string | undefined {
  if (!closed) return 'a template tag {{ has no end }}';
  if (name === undefined)
    return 'a template tag must be a plain variable such as {{context.name}}; sections, partials and comments are not supported';
  const [scope, ...rest] = name.split('.');
  if (scope === 'secrets' && rest.length === 1) return undefined;
  if (place === 'X') return `the template variable '${shorten(name)}' cannot be used here; only secrets.<name> can`;
  if (scope === 'context' && rest.length === 1) return undefined;
  if (scope === 'armory' && rest[0] === 'preview' && rest.length === 2) return undefined;
  if (armoryNames[place].includes(name)) return undefined;
  const elsewhere = Object.values(armoryNames).some((names) => names.includes(name));
  return `the template variable '${shorten(name)}' ${elsewhere ? 'cannot be used here' : 'does not exist'}`;
}

function placeOf(path: Path): TemplatePlace {
  const [block, list, , field] = path;
  if (block === 'analysis' && list === 'queries' && field === 'queryTemplate') return 'Q';
  if (block === 'webhooks' && (path[2] === 'uriTemplate' || path[2] === 'bodyTemplate')) return 'W';
  if (block === 'webhooks' && path[2] === 'headers' && path.at(-1) === 'value') return 'W';
  return 'X';
}

/** What the client adds, and manifests, are not fields that people template. */
const notTemplates = new Set(['files', 'sourceControl', 'version', 'kind']);

/** Every text of the file that can be a template. */
export function templateTexts(root: View): { value: string; path: Path }[] {
  const found: { value: string; path: Path }[] = [];
  const visit = (view: View): void => {
    const value = text(view);
    if (value !== undefined) {
      if (value.includes('{{') && !isInline(view.path)) found.push({ value, path: view.path });
      return;
    }
    for (const item of items(view)) visit(item);
    for (const [, field] of entries(view)) visit(field);
  };
  for (const key of knownKeys([])) if (!notTemplates.has(key)) visit(at(root, key));
  return found;
}

function isInline(path: Path): boolean {
  return path[0] === 'manifests' && path[2] === 'inline';
}

import type { Alias, LineCounter, Node, Pair, Scalar, YAMLMap, YAMLSeq } from 'yaml';
import { isAlias, isMap, isScalar, isSeq } from 'yaml';
import type { Budget, LocatedDocument, Place, Position, SourceProblem } from './source.ts';
import { chargeKey, chargeText, chargeValue } from './source.ts';

type Walk = {
  source: string;
  lines: LineCounter;
  budget: Budget;
  problems: SourceProblem[];
  anchors: Map<string, Node>;
  /** What an alias means is settled where it is first met: an anchor of the same name may follow. */
  aliasTargets: Map<Alias, Node | undefined>;
  /** The values inside which the walk is by way of an alias. */
  resolving: Set<Node>;
  order: number;
  /** A limit was reached, or enough is wrong: the rest is not looked at. */
  stopped: boolean;
};

/** Turns the nodes of one YAML document into plain JSON and places, anchors and merge keys (`<<`) resolved. */
export function walkYaml(
  contents: Node | null,
  source: string,
  lines: LineCounter,
  budget: Budget,
): { document: LocatedDocument; problems: SourceProblem[] } {
  const walk: Walk = {
    source,
    lines,
    budget,
    problems: [],
    anchors: new Map(),
    aliasTargets: new Map(),
    resolving: new Set(),
    order: 0,
    stopped: false,
  };
  return { document: readNode(walk, contents, 0), problems: walk.problems };
}

export function positionAt(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

function refuse(walk: Walk, node: Node | null, message: string): void {
  walk.problems.push({
    path: [],
    message,
    ...(node?.range ? { position: positionAt(walk.lines, node.range[0]) } : {}),
  });
  if (walk.budget.values < 0 || walk.budget.characters < 0 || walk.problems.length >= 20) walk.stopped = true;
}

function readNode(walk: Walk, node: Node | null, depth: number): LocatedDocument {
  const place: Place = { order: walk.order++ };
  if (node?.range) place.value = positionAt(walk.lines, node.range[0]);
  const problem = chargeValue(depth, walk.budget);
  if (problem !== undefined) refuse(walk, node, problem);
  if (walk.stopped || problem !== undefined || node === null) return { value: null, place };
  if (isAlias(node)) return readAlias(walk, node, depth);
  rememberAnchor(walk, node);
  if (isMap(node)) return readMap(walk, node, place, depth);
  if (isSeq(node)) return readList(walk, node, place, depth);
  if (isScalar(node)) {
    const value = scalarValue(walk, node);
    const block = node.type === 'BLOCK_LITERAL' && typeof value === 'string' ? blockOf(walk, node, value) : undefined;
    return { value, place: block === undefined ? place : { ...place, block } };
  }
  refuse(walk, node, 'this kind of YAML is not supported');
  return { value: null, place };
}

/** Not while an alias is resolved: its anchors stand where they were written, further up. */
function rememberAnchor(walk: Walk, node: Node): void {
  if ('anchor' in node && typeof node.anchor === 'string' && walk.resolving.size === 0)
    walk.anchors.set(node.anchor, node);
}

function targetOf(walk: Walk, alias: Alias): Node | undefined {
  if (!walk.aliasTargets.has(alias)) walk.aliasTargets.set(alias, walk.anchors.get(alias.source));
  return walk.aliasTargets.get(alias);
}

function readAlias(walk: Walk, alias: Alias, depth: number): LocatedDocument {
  const target = targetOf(walk, alias);
  if (target === undefined || walk.resolving.has(target)) {
    const problem =
      target === undefined
        ? 'names an anchor (&) that is not defined above it'
        : 'lies inside the value that it stands for';
    refuse(walk, alias, `an alias (*) ${problem}`);
    return { value: null, place: { order: walk.order } };
  }
  walk.resolving.add(target);
  const resolved = readNode(walk, target, depth);
  walk.resolving.delete(target);
  return resolved;
}

/** Where the lines of a literal block stand; undefined where that is not as plain as it mostly is. */
function blockOf(walk: Walk, node: Scalar, value: string): Place['block'] {
  const header = node.range ? walk.source.indexOf('|', node.range[0]) : -1;
  const visible = value.search(/\S/);
  if (header < 0 || visible < 0) return undefined;
  // The first line that is not blank tells how far all are indented.
  const from = value.lastIndexOf('\n', visible) + 1;
  const [first = ''] = value.slice(from).split('\n', 1);
  const line = positionAt(walk.lines, header).line + 1;
  const start = walk.lines.lineStarts[line - 1 + value.slice(0, from).split('\n').length - 1];
  const [source = ''] = start === undefined ? [] : walk.source.slice(start).split(/\r?\n/, 1);
  const indent = source.length - first.length;
  return indent >= 0 && source === `${' '.repeat(indent)}${first}` ? { line, indent } : undefined;
}

function readList(walk: Walk, node: YAMLSeq, place: Place, depth: number): LocatedDocument {
  const children = new Map<string | number, Place>();
  const items: unknown[] = [];
  for (const [index, item] of (node.items as (Node | null)[]).entries()) {
    if (walk.stopped) break;
    const child = readNode(walk, item, depth + 1);
    items.push(child.value);
    children.set(index, child.place);
  }
  return { value: items, place: { ...place, children } };
}

function readMap(walk: Walk, node: YAMLMap, place: Place, depth: number): LocatedDocument {
  const fields = new Map<string, LocatedDocument & { merged: boolean }>();
  let hasMergeKey = false;
  for (const pair of node.items as Pair<Node, Node | null>[]) {
    if (walk.stopped) break;
    if (isMergeKey(pair.key)) {
      if (hasMergeKey) refuse(walk, pair.key, 'a key (<<) appears twice in one mapping');
      hasMergeKey = true;
      for (const [key, field] of readMerged(walk, pair, depth))
        if (!fields.has(key)) fields.set(key, { ...field, merged: true });
      continue;
    }
    const key = readKey(walk, pair.key);
    if (key === undefined) continue;
    if (fields.get(key)?.merged === false) {
      // Not named: in a mistyped Secret the key may be the value.
      refuse(walk, pair.key, 'a key appears twice in one mapping');
      continue;
    }
    const child = readNode(walk, pair.value, depth + 1);
    if (pair.key.range) child.place.key = positionAt(walk.lines, pair.key.range[0]);
    fields.set(key, { ...child, merged: false });
  }
  const children = new Map<string | number, Place>();
  for (const [key, field] of fields) children.set(key, field.place);
  const value = Object.fromEntries([...fields].map(([key, field]) => [key, field.value]));
  return { value, place: { ...place, children } };
}

function readKey(walk: Walk, node: Node): string | undefined {
  const scalar = isAlias(node) ? targetOf(walk, node) : node;
  if (!isScalar(scalar) || (scalar.value === null && !scalar.source)) {
    refuse(walk, node, 'a key must be a word or a text');
    return undefined;
  }
  rememberAnchor(walk, scalar);
  // As written: `8080:` and `on:` are the keys "8080" and "on".
  const key = typeof scalar.value === 'string' ? scalar.value : (scalar.source ?? String(scalar.value));
  const problem = chargeKey(key, walk.budget);
  if (problem !== undefined) refuse(walk, node, problem);
  return problem === undefined ? key : undefined;
}

/** `<<: *defaults` or `<<: [*a, *b]`, the earlier one winning. */
function readMerged(walk: Walk, pair: Pair<Node, Node | null>, depth: number): Map<string, LocatedDocument> {
  const fields = new Map<string, LocatedDocument>();
  const { value, place } = readNode(walk, pair.value, depth + 1);
  const isList = Array.isArray(value);
  for (const [index, source] of (isList ? value : [value]).entries()) {
    if (typeof source !== 'object' || source === null || Array.isArray(source)) {
      if (!walk.stopped) refuse(walk, pair.key, 'a merge key (<<) needs a mapping or a list of mappings');
      continue;
    }
    const places = isList ? place.children?.get(index)?.children : place.children;
    for (const [key, field] of Object.entries(source)) {
      if (!fields.has(key)) fields.set(key, { value: field, place: places?.get(key) ?? place });
    }
  }
  return fields;
}

function isMergeKey(key: Node): boolean {
  return isScalar(key) && key.type === 'PLAIN' && key.source === '<<';
}

function scalarValue(walk: Walk, node: Scalar): unknown {
  const { value } = node;
  if (typeof value === 'string') {
    const problem = chargeText(value, walk.budget);
    if (problem !== undefined) refuse(walk, node, problem);
    return value;
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) refuse(walk, node, 'a number must be finite');
    // Rounding would change without a word what the user wrote.
    else if (!Number.isSafeInteger(value) && /^[-+]?(0x[0-9a-f_]+|[0-9ob_]+)$/i.test(node.source ?? '')) {
      refuse(walk, node, 'a whole number is too large to be carried exactly; put it in quotes if it is a text');
    }
    return value;
  }
  if (value === null || typeof value === 'boolean') return value;
  refuse(walk, node, 'this kind of value is not supported');
  return null;
}

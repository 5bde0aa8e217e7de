import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { isScalar, LineCounter, parseDocument, visit } from 'yaml';

/*
 * A kubeconfig can run programs (exec, auth-provider), send local files away (tokenFile, *-file paths), and route or
 * blind the connection (proxy-url, insecure-skip-tls-verify). Nothing that interprets kubeconfigs gets to see an
 * upload: this file takes out the server, its CA and one credential, and refuses by name everything else that would
 * change what the connection does. No message ever holds a value that could be a secret.
 */

export type ClusterCredential = { token: string } | { certificate: string; key: string };

/** All that is needed to talk to one API server. `caData`, `certificate` and `key` are PEM text; `server` has no trailing slash. */
export type ClusterAccess = { server: string; caData: string; credential: ClusterCredential };

/** `path` is a JSON pointer into the input (through `/kubeconfig` into the YAML); `line` counts from 1 in that YAML. */
export type ClusterAccessProblem = {
  code: 'cluster.refused';
  message: string;
  path: string;
  line?: number;
  hint?: string;
};

export type ParsedClusterAccess = { ok: true; access: ClusterAccess } | { ok: false; problems: ClusterAccessProblem[] };

type Refuse = (path: string, message: string, hint?: string) => undefined;
type Fields = Record<string, unknown>;

const maxKubeconfigBytes = 256 * 1024;
const maxDepth = 12;
const maxProblems = 50;
const maxPemBytes = 128 * 1024;
const maxTokenLength = 8 * 1024;

const fileHint = 'put the contents into the kubeconfig: kubectl config view --flatten --minify';
const tokenHint = 'create a ServiceAccount token with kubectl create token and give that';

/** Fields of a kubeconfig that would change what this server does, with the reason for the refusal. */
const refusedInCluster: Fields = {
  'certificate-authority': ['names a file on the machine it came from, which is never read here', fileHint],
  'insecure-skip-tls-verify': ['switches the check of the server off, so that anybody could take the credential'],
  'proxy-url': ['sends the connection through a server of the file’s choice'],
  'tls-server-name': ['checks the certificate against another name than the one connected to'],
};
const refusedInUser: Fields = {
  exec: ['runs a program, which an upload may never do here', tokenHint],
  'auth-provider': ['runs a sign-in plug-in, which an upload may never do here', tokenHint],
  tokenFile: ['names a file on the machine it came from, which is never read here', tokenHint],
  'client-certificate': ['names a file on the machine it came from, which is never read here', fileHint],
  'client-key': ['names a file on the machine it came from, which is never read here', fileHint],
  username: ['is basic authentication, which Kubernetes no longer has', tokenHint],
  password: ['is basic authentication, which Kubernetes no longer has', tokenHint],
  as: ['acts in the name of somebody else; register that identity’s own credential'],
  'as-uid': ['acts in the name of somebody else; register that identity’s own credential'],
  'as-groups': ['acts in the name of somebody else; register that identity’s own credential'],
  'as-user-extra': ['acts in the name of somebody else; register that identity’s own credential'],
};

/**
 * Reads what a user gives to register a cluster: `{ server, caData, token }`, `{ server, caData,
 * clientCertificateData, clientKeyData }` or `{ kubeconfig, context? }` (YAML or JSON text). `*Data` fields are base64
 * of PEM, as in a kubeconfig, or the PEM itself. Reports all problems at once, each as `cluster.refused`.
 */
export function parseClusterAccess(input: Fields): ParsedClusterAccess {
  const problems: ClusterAccessProblem[] = [];
  const refuse: Refuse = (path, message, hint) => {
    if (problems.length === maxProblems) return undefined;
    problems.push({ code: 'cluster.refused', path, message, ...(hint === undefined ? {} : { hint }) });
    return undefined;
  };
  const access = isSet(input.kubeconfig) ? fromKubeconfig(input, refuse, problems) : fromFields(input, refuse);
  return access && problems.length === 0 ? { ok: true, access } : { ok: false, problems };
}

function fromFields(input: Fields, refuse: Refuse): ClusterAccess | undefined {
  const known = ['server', 'caData', 'token', 'clientCertificateData', 'clientKeyData'];
  for (const name of unknownKeys(input, known)) refuse(pointer(name), `the field '${clip(name)}' is not known`);
  return readAccess(
    refuse,
    { path: '/server', value: input.server },
    { path: '/caData', value: input.caData },
    { path: '/token', value: input.token },
    { path: '/clientCertificateData', value: input.clientCertificateData },
    { path: '/clientKeyData', value: input.clientKeyData },
  );
}

function fromKubeconfig(input: Fields, refuse: Refuse, problems: ClusterAccessProblem[]): ClusterAccess | undefined {
  for (const name of unknownKeys(input, ['kubeconfig', 'context'])) {
    refuse(pointer(name), `the field '${clip(name)}' cannot be given beside a kubeconfig`);
  }
  const text = input.kubeconfig;
  if (typeof text !== 'string') return refuse('/kubeconfig', 'the kubeconfig must be given as text (YAML or JSON)');
  if (Buffer.byteLength(text) > maxKubeconfigBytes) {
    const hint = 'send only the context that is meant: kubectl config view --raw --flatten --minify';
    return refuse('/kubeconfig', `the kubeconfig is larger than ${maxKubeconfigBytes / 1024} KiB`, hint);
  }
  const yaml = readYaml(text);
  if ('problem' in yaml) {
    problems.push({ code: 'cluster.refused', path: '/kubeconfig', ...yaml.problem });
    return undefined;
  }
  const access = fromConfig(yaml.value, input.context, refuse);
  for (const problem of problems) {
    const line = yaml.lineOf(problem.path);
    if (line !== undefined) problem.line = line;
  }
  return access;
}

function fromConfig(config: unknown, contextName: unknown, refuse: Refuse): ClusterAccess | undefined {
  const root = '/kubeconfig';
  if (!isFields(config))
    return refuse(root, 'this is not a kubeconfig: expected kind Config with clusters, users and contexts');
  if (isSet(config.kind) && config.kind !== 'Config')
    return refuse(`${root}/kind`, 'this is not a kubeconfig: kind must be Config');
  if (isSet(config.apiVersion) && config.apiVersion !== 'v1') refuse(`${root}/apiVersion`, 'apiVersion must be v1');
  const top = ['apiVersion', 'kind', 'clusters', 'users', 'contexts', 'current-context', 'preferences', 'extensions'];
  refuseUnknown(refuse, root, config, top, {});

  if (isSet(contextName) && typeof contextName !== 'string')
    return refuse('/context', 'context must be the name of a context');
  const wanted = isSet(contextName) ? contextName : config['current-context'];
  if (!isSet(wanted)) {
    return refuse(`${root}/current-context`, 'no context is chosen', `give context: one of ${names(config.contexts)}`);
  }
  const askedAt = isSet(contextName) ? '/context' : `${root}/current-context`;
  const context = pick(refuse, config, 'contexts', 'context', wanted, askedAt);
  if (!context) return undefined;
  refuseUnknown(refuse, context.path, context.fields, ['cluster', 'user', 'namespace', 'extensions'], {});

  const cluster = pick(refuse, config, 'clusters', 'cluster', context.fields.cluster, `${context.path}/cluster`);
  const user = pick(refuse, config, 'users', 'user', context.fields.user, `${context.path}/user`);
  if (!cluster || !user) return undefined;
  const inCluster = ['server', 'certificate-authority-data', 'disable-compression', 'extensions'];
  refuseUnknown(refuse, cluster.path, cluster.fields, inCluster, refusedInCluster);
  const inUser = ['token', 'client-certificate-data', 'client-key-data', 'extensions'];
  const refused = refuseUnknown(refuse, user.path, user.fields, inUser, refusedInUser);

  const at = (part: { path: string; fields: Fields }, name: string) => ({
    path: `${part.path}/${name}`,
    value: part.fields[name],
  });
  return readAccess(
    refuse,
    at(cluster, 'server'),
    at(cluster, 'certificate-authority-data'),
    at(user, 'token'),
    at(user, 'client-certificate-data'),
    at(user, 'client-key-data'),
    // The refusal of exec and its like already says what to give in its place.
    refused > 0,
  );
}

/** Finds the one entry of `list` that is called `name`; what it holds is under `inner`. */
function pick(refuse: Refuse, config: Fields, list: string, inner: string, name: unknown, askedAt: string) {
  const entries = Array.isArray(config[list]) ? config[list] : [];
  if (typeof name !== 'string' || name === '') return refuse(askedAt, `the name of a ${inner} is missing here`);
  const found = entries.flatMap((entry: unknown, index) => (isFields(entry) && entry.name === name ? [index] : []));
  const [index] = found;
  if (index === undefined) {
    return refuse(askedAt, `there is no ${inner} named '${clip(name)}'`, `known: ${names(entries)}`);
  }
  const path = `/kubeconfig/${list}/${index}`;
  if (found.length > 1) return refuse(path, `there are ${found.length} ${list} named '${clip(name)}'`);
  const entry = entries[index] as Fields;
  refuseUnknown(refuse, path, entry, ['name', inner], {});
  const fields = entry[inner];
  return isFields(fields) ? { path: `${path}/${inner}`, fields } : refuse(path, `'${inner}' is missing here`);
}

/** Refuses every field outside the whitelist by its name; fields that are empty or false ask for nothing. Answers how many. */
function refuseUnknown(refuse: Refuse, path: string, fields: Fields, known: string[], reasons: Fields): number {
  const refused = unknownKeys(fields, known);
  for (const name of refused) {
    const [reason, hint] = (Object.hasOwn(reasons, name) ? reasons[name] : []) as [string?, string?];
    refuse(
      `${path}${pointer(name)}`,
      `'${clip(name)}' is refused: it ${reason ?? 'is not a field that is known here'}`,
      hint,
    );
  }
  return refused.length;
}

type Located = { path: string; value: unknown };

function readAccess(
  refuse: Refuse,
  server: Located,
  ca: Located,
  token: Located,
  certificate: Located,
  key: Located,
  credentialRefused = false,
): ClusterAccess | undefined {
  const url = readServer(refuse, server);
  const caData = isSet(ca.value)
    ? readCertificates(refuse, ca)
    : refuse(ca.path, 'the CA of the API server is missing; only the registered CA is ever trusted', fileHint);
  const credential = readCredential(refuse, token, certificate, key, credentialRefused);
  return url !== undefined && caData !== undefined && credential ? { server: url, caData, credential } : undefined;
}

function readServer(refuse: Refuse, { path, value }: Located): string | undefined {
  if (!isSet(value))
    return refuse(path, 'the address of the API server is missing', 'for example https://10.0.0.1:6443');
  if (typeof value !== 'string' || value.length > 2048 || !URL.canParse(value)) {
    return refuse(path, 'the address of the API server is not a URL', 'for example https://10.0.0.1:6443');
  }
  const url = new URL(value);
  if (url.protocol !== 'https:') return refuse(path, 'the address of the API server must begin with https://');
  if (url.username !== '' || url.password !== '')
    return refuse(path, 'the address must not hold a user name or password');
  if (url.search !== '' || url.hash !== '' || /[?#]/.test(value)) {
    return refuse(path, 'the address must not hold a query (?) or fragment (#)');
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

function readCredential(
  refuse: Refuse,
  token: Located,
  certificate: Located,
  key: Located,
  credentialRefused: boolean,
): ClusterCredential | undefined {
  if (isSet(token.value)) {
    if (isSet(certificate.value) || isSet(key.value)) {
      return refuse(token.path, 'both a token and a client certificate are given: give one of them');
    }
    const text = typeof token.value === 'string' ? token.value.trim() : '';
    // RFC 6750 section 2.1: anything else could not stand in the Authorization header.
    if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(text)) return refuse(token.path, 'the token is not a bearer token');
    if (text.length > maxTokenLength)
      return refuse(token.path, `the token is longer than ${maxTokenLength} characters`);
    return { token: text };
  }
  if (!isSet(certificate.value) && !isSet(key.value)) {
    return credentialRefused
      ? undefined
      : refuse(token.path, 'a credential is missing: a token, or a client certificate and its key', tokenHint);
  }
  if (!isSet(certificate.value)) return refuse(certificate.path, 'the certificate of the client key is missing');
  if (!isSet(key.value)) return refuse(key.path, 'the key of the client certificate is missing');
  const chain = readCertificates(refuse, certificate);
  const pem = readPem(refuse, key);
  if (chain === undefined || pem === undefined) return undefined;
  if (/ENCRYPTED/.test(pem))
    return refuse(key.path, 'the client key is protected by a passphrase; give it without one');
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(pem);
  } catch {
    return refuse(key.path, 'the client key is not a private key in PEM form');
  }
  if (!new X509Certificate(chain).checkPrivateKey(privateKey)) {
    return refuse(key.path, 'the client key does not belong to the client certificate');
  }
  try {
    createSecureContext({ cert: chain, key: pem });
  } catch {
    return refuse(
      certificate.path,
      'the client certificate is too weak for TLS: its key must be RSA of 2048 bits or EC',
    );
  }
  return { certificate: chain, key: pem };
}

/** One or more PEM certificates and nothing else; answers them joined. */
function readCertificates(refuse: Refuse, located: Located): string | undefined {
  const pem = readPem(refuse, located);
  if (pem === undefined) return undefined;
  const blocks = pem.match(/-----BEGIN ([^-\n]+)-----[^-]*-----END \1-----/g) ?? [];
  if (blocks.length === 0) return refuse(located.path, 'there is no PEM certificate in it');
  for (const [index, block] of blocks.entries()) {
    try {
      if (!block.startsWith('-----BEGIN CERTIFICATE-----')) throw new Error('another kind of block');
      // Base64 hides it from the check of the request; OpenSSL reads over it, the database does not take it.
      if (block.includes('\0')) throw new Error('a NUL');
      new X509Certificate(block);
    } catch {
      return refuse(located.path, `block ${index + 1} of ${blocks.length} is not a PEM certificate`);
    }
  }
  return `${blocks.join('\n')}\n`;
}

function readPem(refuse: Refuse, { path, value }: Located): string | undefined {
  const expected = 'expected base64 of PEM, as in a kubeconfig';
  if (typeof value !== 'string' || value.length > maxPemBytes) {
    return refuse(path, `${expected}, of at most ${maxPemBytes / 1024} KiB`);
  }
  const text = value.trim();
  if (text.startsWith('-----BEGIN ')) return text;
  const packed = text.replace(/\s+/g, '');
  const decoded = /^[A-Za-z0-9+/]+=*$/.test(packed) ? Buffer.from(packed, 'base64').toString('latin1').trim() : '';
  return decoded.includes('-----BEGIN ') ? decoded : refuse(path, expected);
}

type ReadYaml =
  | { value: unknown; lineOf: (path: string) => number | undefined }
  | { problem: { message: string; line?: number } };

/** YAML without aliases, tags or second documents. Reports the parser's code and place, never its excerpt. */
function readYaml(text: string): ReadYaml {
  const nesting = { problem: { message: `the kubeconfig is nested deeper than ${maxDepth} levels` } };
  // The parser recurses; a file of brackets alone must not reach it.
  if (/(?:[[{]\s*){32}/.test(text)) return nesting;
  try {
    const lines = new LineCounter();
    // The parser's own search for repeated keys is quadratic: seconds for a small hostile file.
    const options = { lineCounter: lines, prettyErrors: false, logLevel: 'error', uniqueKeys: false } as const;
    const document = parseDocument(text, options);
    const [problem] = [...document.errors, ...document.warnings];
    if (problem) {
      const line = lines.linePos(problem.pos[0]).line;
      const what = problem.code === 'TAB_AS_INDENT' ? 'a tab is used for indentation; YAML wants spaces' : problem.code;
      return { problem: { message: `the kubeconfig is not readable as YAML (${what})`, line } };
    }
    let repeated: number | undefined;
    let aliased = false;
    visit(document, {
      Alias: () => {
        aliased = true;
        return visit.BREAK;
      },
      Map: (_key, { items }) => {
        const seen = new Set<unknown>();
        for (const { key } of items) {
          if (!isScalar(key)) continue;
          if (seen.has(String(key.value))) repeated ??= key.range?.[0] ?? 0;
          seen.add(String(key.value));
        }
      },
    });
    if (aliased) return { problem: { message: 'YAML aliases (*name) are not accepted in a kubeconfig' } };
    if (repeated !== undefined) {
      const line = lines.linePos(repeated).line;
      return { problem: { message: 'the kubeconfig has the same key twice in one place', line } };
    }
    const value: unknown = document.toJS({ maxAliasCount: 0 });
    if (depthOf(value) > maxDepth) return nesting;
    return {
      value,
      lineOf: (path) => {
        const steps = path.split('/').slice(2).map(unescapePointer);
        for (let length = steps.length; length > 0; length -= 1) {
          const node: unknown = document.getIn(steps.slice(0, length), true);
          const range = isFields(node) && Array.isArray(node.range) ? node.range : undefined;
          if (typeof range?.[0] === 'number') return lines.linePos(range[0]).line;
        }
        return undefined;
      },
    };
  } catch (error) {
    if (error instanceof RangeError) return nesting;
    return { problem: { message: 'the kubeconfig is not readable as YAML' } };
  }
}

function depthOf(value: unknown, limit = maxDepth + 1): number {
  if (typeof value !== 'object' || value === null || limit === 0) return 0;
  return 1 + Math.max(0, ...Object.values(value).map((inner) => depthOf(inner, limit - 1)));
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Absent, null, '' and false all ask for nothing. */
function isSet(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '' && value !== false;
}

function unknownKeys(fields: Fields, known: string[]): string[] {
  return Object.keys(fields).filter((name) => !known.includes(name) && isSet(fields[name]));
}

function names(entries: unknown): string {
  const found = Array.isArray(entries)
    ? entries.flatMap((entry: unknown) => (isFields(entry) && typeof entry.name === 'string' ? [clip(entry.name)] : []))
    : [];
  return found.length === 0 ? 'none' : `${found.slice(0, 10).join(', ')}${found.length > 10 ? ', …' : ''}`;
}

function clip(name: string): string {
  const text = name.replace(/\p{C}/gu, '?');
  return text.length > 80 ? `${text.slice(0, 80).replace(/[\ud800-\udbff]$/, '')}…` : text;
}

function pointer(name: string): string {
  return `/${clip(name).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

function unescapePointer(step: string): string {
  return step.replaceAll('~1', '/').replaceAll('~0', '~');
}

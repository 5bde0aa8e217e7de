/** What a request to the Kubernetes API needs the right to, as its server works it out (RequestInfo, apiserver 1.35). */
export type RequestRight =
  | { kind: 'resource'; verb: string; group: string; resource: string; namespace: string; name: string }
  /** Discovery, the version, and other paths that name no resource. */
  | { kind: 'path'; path: string };

export function rightOf(method: string, url: string): RequestRight {
  const { pathname, searchParams } = new URL(url, 'https://cluster');
  const parts = pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const isCore = parts[0] === 'api';
  const rest = parts.slice(isCore ? 2 : 3);
  if ((!isCore && parts[0] !== 'apis') || rest.length === 0) return { kind: 'path', path: pathname };
  // A Namespace counts as being in itself.
  const namespace = rest[0] === 'namespaces' ? (rest[1] ?? '') : '';
  const [resource = '', name = '', subresource] = rest[0] === 'namespaces' && rest.length > 2 ? rest.slice(2) : rest;
  return {
    kind: 'resource',
    verb: verbOf(method, name, searchParams.get('watch') === 'true'),
    group: isCore ? '' : (parts[1] ?? ''),
    resource: subresource === undefined ? resource : `${resource}/${subresource}`,
    namespace,
    name,
  };
}

function verbOf(method: string, name: string, watch: boolean): string {
  switch (method) {
    case 'GET':
      return watch ? 'watch' : name === '' ? 'list' : 'get';
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return name === '' ? 'deletecollection' : 'delete';
    default:
      return method.toLowerCase();
  }
}

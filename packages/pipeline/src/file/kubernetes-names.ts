/** RFC 1123 label: what Kubernetes takes as the name of a namespace. */
export function isDnsLabel(name: string): boolean {
  return name.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name);
}

/** RFC 1035 label: what Kubernetes takes as the name of a Service, whatever its version. */
export function isServiceName(name: string): boolean {
  return isDnsLabel(name) && /^[a-z]/.test(name);
}

/** RFC 1123 subdomain: the name of most objects. */
export function isDnsSubdomain(name: string): boolean {
  return name.length <= 253 && name.split('.').every((part) => /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(part));
}

/** The least that holds for the name of any object: it is one segment of a path (RBAC allows `system:x`). */
export function isPathSegment(name: string): boolean {
  return name !== '' && name.length <= 253 && name !== '.' && name !== '..' && !/[/%\s\p{Cc}]/u.test(name);
}

export function isKind(kind: string): boolean {
  return kind.length <= 63 && /^[A-Za-z][A-Za-z0-9]*$/.test(kind);
}

/** `v1` or `group/version`. */
export function isApiVersion(apiVersion: string): boolean {
  const [group, version, ...rest] = apiVersion.includes('/') ? apiVersion.split('/') : [undefined, apiVersion];
  return rest.length === 0 && (group === undefined || isDnsSubdomain(group)) && isDnsLabel(version ?? '');
}

/** The group of an apiVersion; the core group is ''. */
export function groupOf(apiVersion: string): string {
  return apiVersion.includes('/') ? (apiVersion.split('/')[0] ?? '') : '';
}

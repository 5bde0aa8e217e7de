import { isRecord } from '../is-record.ts';
import { parseDeploymentFile } from './parse.ts';
import { type ResolvedFile, resolveDeploymentFile } from './resolve.ts';
import type { Violation } from './violations.ts';

/** For tests: a Deployment `web` with three pods, and its Service. */
export const webManifests = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
        - name: web
          image: registry.example/shop:1
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector:
    app: web
  ports:
    - port: 80
`;

const shop = {
  version: 'v1',
  kind: 'kubernetes',
  application: 'shop',
  targets: { qa: { account: 'east', namespace: 'shop-qa', strategy: 'slow' } },
  manifests: [{ path: 'k8s/app.yaml' }],
  files: { 'k8s/app.yaml': [webManifests] },
  strategies: { slow: { canary: { steps: [{ setWeight: { weight: 20 } }] } } },
  trafficManagement: [{ smi: [{ rootServiceName: 'web' }] }],
};

/** For tests: a valid file as the client sends it, changed by `patch`: mappings merge, undefined removes, the rest replaces. */
export function shopFile(patch: Record<string, unknown> = {}): unknown {
  return merge(shop, patch);
}

function merge(base: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const merged = new Map<string, unknown>(isRecord(base) ? Object.entries(base) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === undefined) merged.delete(key);
    else merged.set(key, merge(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}

/** For tests: both halves of reading a file, `east` and `sandbox` being registered. */
export function check(source: unknown, account?: string): ResolvedFile | { violations: Violation[] } {
  const parsed = parseDeploymentFile(typeof source === 'string' ? { yaml: source } : { json: JSON.stringify(source) });
  if ('violations' in parsed) return parsed;
  return resolveDeploymentFile(parsed.file, { registeredAccounts: ['east', 'sandbox'], drainSeconds: 5, account });
}

export function violationsOf(source: unknown, account?: string): Violation[] {
  const result = check(source, account);
  return 'violations' in result ? result.violations : [];
}

/** For tests: `code at path` of each violation, or of the accepted file each warning. */
export function outcome(source: unknown, account?: string): string[] {
  const result = check(source, account);
  if ('violations' in result) return result.violations.map(({ code, path }) => `${code} ${path}`);
  return result.warnings.map((warning) => `WARN ${warning}`);
}

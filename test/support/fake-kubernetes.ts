import { type Handler, json, refusal } from './fake-api-server.ts';

/** What a SelfSubjectAccessReview asks. */
export type Attributes = { verb: string; group: string; resource: string; namespace?: string; name?: string };

export type FakeKubernetes = {
  /** What the credential may do. Default: everything. */
  allowed?: (attributes: Attributes) => boolean;
  /** Of the namespace kube-system, as it is answered; undefined: it may not be read. */
  uid?: unknown;
  /** API groups that are served, with their versions. */
  groups?: Record<string, string[]>;
  version?: string;
  /** What a SelfSubjectRulesReview answers of a namespace; default: such reviews are not served. */
  rules?: (namespace: string) => { resourceRules: object[] | null; incomplete: boolean };
  /** The one token that is accepted. */
  token?: string;
};

/** Enough of the Kubernetes API to register a cluster with, for a server that answers as a test tells it to. */
export function answerAsKubernetes(fake: FakeKubernetes, reviews: Attributes[] = []): Handler {
  const { allowed = () => true, uid, groups = {}, version = 'v1.35.4', token, rules } = fake;
  return (request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      return refusal(response, 401, 'Unauthorized');
    }
    if (path === '/version') return json(response, 200, { gitVersion: version });
    if (path.endsWith('/selfsubjectaccessreviews')) {
      const { spec } = JSON.parse(request.text) as { spec: { resourceAttributes: Attributes } };
      reviews.push(spec.resourceAttributes);
      return json(response, 201, { spec, status: { allowed: allowed(spec.resourceAttributes) } });
    }
    if (rules && path.endsWith('/selfsubjectrulesreviews')) {
      const { spec } = JSON.parse(request.text) as { spec: { namespace: string } };
      return json(response, 201, { spec: {}, status: { nonResourceRules: [], ...rules(spec.namespace) } });
    }
    if (path === '/api/v1/namespaces/kube-system') {
      return uid === undefined
        ? refusal(response, 403, 'Forbidden')
        : json(response, 200, { kind: 'Namespace', apiVersion: 'v1', metadata: { name: 'kube-system', uid } });
    }
    const [, group = ''] = /^\/apis\/([^/]+)$/.exec(path) ?? [];
    const versions = groups[group];
    if (versions) {
      const listed = versions.map((each) => ({ groupVersion: `${group}/${each}`, version: each }));
      return json(response, 200, {
        kind: 'APIGroup',
        apiVersion: 'v1',
        name: group,
        versions: listed,
        preferredVersion: listed[0],
      });
    }
    refusal(response, 404, 'NotFound');
  };
}

import { createHash, X509Certificate } from 'node:crypto';
import { rootCertificates, type TLSSocket } from 'node:tls';
import { Pool } from 'undici';
import { exchange } from '../drivers/kube-exchange.ts';
import { createConnector, type Outbound } from '../outbound.ts';
import type { ClusterAccess } from './kubeconfig.ts';

const timeoutMs = 10_000;
const answerBytes = 1024 * 1024;

/** Who a cluster is, as one connection with a verified chain showed. */
export type ClusterIdentity = {
  /** What claims on its objects meet by. */
  clusterUid: string;
  /** The id that it has for a credential that may not read the uid of kube-system: by its address. */
  uidByAddress: string;
  /** Whether the uid of kube-system was read. */
  isByUid: boolean;
  /** When the server's certificate, and the CA at the root of its chain, end. */
  certificates: { serverUntil: Date; caUntil: Date };
};

/**
 * The id of a cluster that everybody who registers it gets, and nobody else can. Claims on objects meet by it across
 * tenants, so that a server's word for who it is (the uid of its namespace kube-system) must not suffice: whoever repeats
 * another cluster's uid would take claims on its objects, and learn of them. It is a hash over that uid and the public key of
 * the CA that the very connection which answered was verified against, which another server cannot show; of several in
 * `caData` the one at the root of the chain that was served. A renewed certificate of the same key changes nothing; a new
 * key of the CA makes another id, until the cluster is registered anew.
 *
 * The address is left out, because a cluster is registered under several; save where the CA is one that browsers trust:
 * it issues certificates to anybody, and what its key proves is the name.
 *
 * @returns undefined where no connection with a verified chain came about
 */
export async function identifyCluster(
  access: ClusterAccess,
  outbound: Outbound,
  signal?: AbortSignal,
): Promise<ClusterIdentity | undefined> {
  const { server, caData, credential } = access;
  const { origin, pathname, host } = new URL(server);
  const roots = new Set<string>();
  let certificates: ClusterIdentity['certificates'] | undefined;
  const connect = createConnector(outbound, 'cluster', {
    ca: caData,
    ...('certificate' in credential ? { cert: credential.certificate, key: credential.key } : {}),
  });
  const pool = new Pool(origin, {
    connections: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
    connect(options, callback) {
      const answer = callback as (error: Error | null, socket: TLSSocket | null) => void;
      connect(options, ((error: Error | null, socket: TLSSocket | null) => {
        try {
          const chain = socket ? chainOf(socket, caData) : undefined;
          if (socket) roots.add(chain ? keyOf(chain.root) : '');
          if (chain) certificates = { serverUntil: untilOf(chain.leaf), caUntil: untilOf(chain.root) };
        } catch {
          // This runs in an event of the socket, where nobody catches; a certificate that cannot be read shows no root.
          roots.add('');
        }
        answer(error, socket);
      }) as typeof callback);
    },
  });
  try {
    const path = `${pathname.replace(/\/+$/, '')}/api/v1/namespaces/kube-system`;
    const token = 'token' in credential ? credential.token : undefined;
    const headers = ['accept', 'application/json', 'user-agent', 'cdaas'];
    if (token !== undefined) headers.push('authorization', `Bearer ${token}`);
    const outcome = await exchange(
      pool,
      { method: 'GET', path, headers },
      { timeoutMs, answerBytes, signal, secret: token },
    );
    const [root] = roots;
    if (outcome.kind !== 'answered' || roots.size !== 1 || !root || !certificates) return undefined;
    const uid = outcome.status === 200 ? uidIn(outcome.body) : undefined;
    const idBy = (what: string) => {
      const parts = [root, what, ...(isPublic(root) ? [host] : [])];
      return `sha256:${createHash('sha256').update(parts.join('\n')).digest('hex')}`;
    };
    return { clusterUid: idBy(uid ?? server), uidByAddress: idBy(server), isByUid: uid !== undefined, certificates };
  } finally {
    await pool.destroy();
  }
}

function uidIn(body: unknown): string | undefined {
  const metadata = fieldOf(body, 'metadata');
  const uid = fieldOf(metadata, 'uid');
  return typeof uid === 'string' && /^[\w.:-]{1,200}$/.test(uid) ? uid : undefined;
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;
}

/**
 * The served certificate and the root in `caData` that it leads to. Each link is checked by its signature: what node tells
 * of a peer's issuers is found by their names, which anybody can choose.
 */
function chainOf(socket: TLSSocket, caData: string): { leaf: X509Certificate; root: X509Certificate } | undefined {
  const registered = (caData.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (pem) => new X509Certificate(pem),
  );
  const leaf = socket.getPeerX509Certificate();
  if (!leaf) return undefined;
  const served: X509Certificate[] = [];
  for (let next = leaf.issuerCertificate; next && served.length < 10; next = next.issuerCertificate) served.push(next);
  const issuers = [...registered, ...served].filter(({ ca }) => ca);
  const anchors = registered.filter((certificate) => isIssuedBy(certificate, certificate));

  const seen = new Set([leaf]);
  for (const certificate of seen) {
    const anchor = anchors.find((candidate) => isIssuedBy(certificate, candidate));
    if (anchor) return { leaf, root: anchor };
    for (const issuer of issuers) if (isIssuedBy(certificate, issuer)) seen.add(issuer);
  }
  // A server's own certificate that is trusted as it stands, without being an authority.
  return registered.some(({ raw }) => raw.equals(leaf.raw)) ? { leaf, root: leaf } : undefined;
}

function untilOf(certificate: X509Certificate): Date {
  return new Date(certificate.validTo);
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

/** The public key (SPKI, base64). */
function keyOf(certificate: X509Certificate): string {
  return certificate.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
}

/** Whether it is the key of a CA that node, as browsers do, trusts for every name. */
function isPublic(key: string): boolean {
  return rootCertificates.some((pem) => keyOf(new X509Certificate(pem)) === key);
}

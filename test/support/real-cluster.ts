import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ClusterAddress, createClusterClient } from './cluster-client.ts';
import { type Credential, type CredentialOptions, makeCredential } from './cluster-credentials.ts';
import { givenCluster } from './given-cluster.ts';
import { canHaveKubernetes, kubernetesBinary } from './kubernetes-binary.ts';
import { administratorKubeconfig, type ControlPlane, startControlPlane } from './kubernetes-processes.ts';
import {
  allSplitVersions,
  type SplitVersion,
  scaledObjects,
  serviceProfiles,
  trafficSplits,
} from './mesh-definitions.ts';
import { type SmiAdaptor, startSmiAdaptor } from './smi-adaptor.ts';
import { until } from './until.ts';

/**
 * A real Kubernetes control plane (test/kubernetes): everything but containers. Pods become ready, or not, by the tag of
 * their image, as in the sandbox cluster: `never-ready`, `bad-image`, `crash`, `slow`. `server`, `caData` (base64 of PEM)
 * and `token` are an administrator's, so that it can be given wherever a ClusterAddress is asked for.
 */
export type RealCluster = ClusterAddress & {
  /** A file for kubectl, of the administrator. */
  kubeconfigFile: string;
  /** An account with a token, as an operator would make it for the control plane. */
  makeCredential(options?: CredentialOptions): Promise<Credential>;
  /** Must be called at the end. A shared cluster goes on for the other test files. */
  stop(): Promise<void>;
};

/** One that is started for a test or a measurement alone. */
export type OwnCluster = RealCluster & {
  controlPlane: ControlPlane;
  /** The stand-in for Linkerd's SMI adaptor, unless left out. */
  adaptor: SmiAdaptor | undefined;
};

export type RealClusterOptions = {
  /** Versions of TrafficSplits to serve; the first is the stored one. Default: all four. None: no such resource. */
  splitVersions?: readonly SplitVersion[];
  /**
   * Whether a stand-in for Linkerd's SMI adaptor runs, and its workload is there to be found. Default: where v1alpha1,
   * which it reads, is served.
   */
  adaptor?: boolean;
  /** Whether requests of ServiceAccounts are written to `controlPlane.auditFile`. Default: false. */
  audit?: boolean;
  /** Milliseconds from scheduled to ready. Default: 10. */
  readyAfterMs?: number;
  /** Milliseconds that a deleted pod lingers as terminating. Default: 20. */
  endAfterMs?: number;
  /** Is told of the build of the binary, where there is one. */
  say?: (line: string) => void;
};

/** Namespaces with this prefix are left alone by a shared cluster's adaptor, for tests that run one of their own. */
export const ownMeshPrefix = 'own-mesh-';

/** Where a shared cluster can be asked for: set by the runner's global setup (shared-cluster.ts). */
export const sharedClusterVariable = 'CDAAS_TEST_CLUSTER_SOCKET';
/** A kubeconfig of a cluster to use instead of one of our own. */
const givenClusterVariable = 'CDAAS_TEST_KUBECONFIG';

/**
 * For node:test's `skip`: why there can be no real cluster here (no Go to build it), or false. In CI it is always false,
 * so that these cases fail rather than go missing.
 */
export const withoutRealCluster: string | false =
  process.env.CI === 'true' || process.env[givenClusterVariable] || canHaveKubernetes()
    ? false
    : 'needs Go, or CDAAS_TEST_KUBECONFIG';

let own: { cluster: Promise<RealCluster>; users: number } | undefined;

/**
 * The cluster that the test files of a run share: each works in namespaces of its own. It is started when the first asks
 * for it; a file that is run by itself gets one of its own.
 */
export async function useRealCluster(): Promise<RealCluster> {
  const socket = process.env[sharedClusterVariable];
  if (socket) return asRealCluster(await askForShared(socket), async () => {});
  own ??= { cluster: startSharedCluster(console.log), users: 0 };
  const mine = own;
  mine.users += 1;
  const cluster = await mine.cluster;
  return {
    ...cluster,
    async stop() {
      mine.users -= 1;
      if (mine.users > 0) return;
      own = undefined;
      await cluster.stop();
    },
  };
}

/** The cluster that files share: the given one, or one of our own. */
export async function startSharedCluster(say: (line: string) => void): Promise<RealCluster> {
  const file = process.env[givenClusterVariable];
  if (!file) return startRealCluster({ say });
  const given = await givenCluster(file);
  await prepare(given, allSplitVersions);
  const adaptor = await startSmiAdaptor(given, { serves: isSharedMesh });
  return asRealCluster({ ...given, kubeconfigFile: file }, async () => {
    await adaptor.stop();
    await given.release();
  });
}

/** Starts a cluster for the caller alone: 3 to 5 seconds, about 700 MB while it runs. */
export async function startRealCluster(options: RealClusterOptions = {}): Promise<OwnCluster> {
  const { splitVersions = allSplitVersions, say = () => {}, adaptor: asked, ...rest } = options;
  const hasAdaptor = asked ?? splitVersions.includes('v1alpha1');
  const { path: binary } = await kubernetesBinary(say);
  const folder = mkdtempSync(join(tmpdir(), 'cdaas-k8s-'));
  let controlPlane: ControlPlane | undefined;
  let adaptor: SmiAdaptor | undefined;
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  const stop = async () => {
    await adaptor?.stop();
    await controlPlane?.stop();
    process.off('exit', remove);
    remove();
  };
  try {
    controlPlane = await startControlPlane({ binary, folder, ...rest });
    await prepare(controlPlane, splitVersions);
    if (hasAdaptor) adaptor = await startSmiAdaptor(controlPlane, { serves: isSharedMesh });
    const { server, caData, token } = controlPlane;
    const cluster = asRealCluster({ server, caData, token, kubeconfigFile: administratorKubeconfig(folder) }, stop);
    return { ...cluster, controlPlane, adaptor };
  } catch (error) {
    await stop();
    throw error;
  }
}

function isSharedMesh(namespace: string): boolean {
  return !namespace.startsWith(ownMeshPrefix);
}

type Description = ClusterAddress & { kubeconfigFile: string };

function asRealCluster({ server, caData, token, kubeconfigFile }: Description, stop: () => Promise<void>): RealCluster {
  const address = { server, caData, token };
  return { ...address, kubeconfigFile, makeCredential: (options) => makeCredential(address, options), stop };
}

/** Asks the process that the runner keeps it in; the answer comes when the cluster is ready. */
function askForShared(socket: string): Promise<Description> {
  return new Promise((resolve, reject) => {
    let text = '';
    const asking = connect(socket);
    asking.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    asking.once('error', reject);
    asking.once('close', () => {
      const answer = (text === '' ? {} : JSON.parse(text)) as Partial<Description> & { error?: string };
      if (answer.server) resolve(answer as Description);
      else reject(new Error(answer.error ?? 'the shared cluster is gone'));
    });
  });
}

/** Defines the resources of meshes, where they are not defined, and waits until all of them are served. */
async function prepare(cluster: ClusterAddress, splitVersions: readonly SplitVersion[]): Promise<void> {
  const client = createClusterClient(cluster);
  const definitions = [
    ...(splitVersions.length > 0 ? [trafficSplits(splitVersions)] : []),
    serviceProfiles(),
    scaledObjects(),
  ];
  try {
    for (const definition of definitions) {
      const { status, body } = await client.send(
        'POST',
        '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
        definition,
      );
      if (status >= 300 && status !== 409)
        throw new Error(`${definition.metadata.name}: HTTP ${status} ${String(body.message)}`);
    }
    for (const { spec } of definitions) {
      for (const { name } of spec.versions as { name: string }[]) {
        const { plural } = spec.names as { plural: string };
        // Discovery names a resource before its storage answers.
        const path = `/apis/${String(spec.group)}/${name}/${plural}?limit=1`;
        await until(async () => (await client.send('GET', path)).status === 200, path);
      }
    }
  } finally {
    client.close();
  }
}

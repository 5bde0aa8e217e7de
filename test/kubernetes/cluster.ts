import { constants, copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { kubernetesVersion } from '../support/kubernetes-binary.ts';
import { allSplitVersions, type SplitVersion } from '../support/mesh-definitions.ts';
import { startRealCluster } from '../support/real-cluster.ts';

const usage = `npm run cluster [-- options]

Starts a real Kubernetes ${kubernetesVersion} control plane on this machine to try things on: etcd, kube-apiserver,
kube-controller-manager and kube-scheduler, with TrafficSplits, Linkerd's ServiceProfiles and a stand-in for its SMI
adaptor. Containers are not run: a pod is marked Ready as soon as it is scheduled, or not, by the tag of its image
(never-ready, bad-image, crash, slow). It serves until Ctrl-C; then everything in it is gone.

The first start builds it from Go modules (Go 1.25 or newer; about 5 minutes on two cores); the result is kept in
~/.cache/cdaas, and later starts take some seconds.

  --kubeconfig FILE     where to write the kubeconfig     .cdaas-cluster/kubeconfig
                        (a file that is there already is left alone: name another)
  --splits VERSIONS     versions of TrafficSplits          ${allSplitVersions.join(',')}
  --no-mesh             without the stand-in for the adaptor
  --ready-after MS      from scheduled to ready            500
  --end-after MS        how long deleted pods linger       500
  --help                show this
`;

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        kubeconfig: { type: 'string', default: '.cdaas-cluster/kubeconfig' },
        splits: { type: 'string', default: allSplitVersions.join(',') },
        'no-mesh': { type: 'boolean', default: false },
        'ready-after': { type: 'string', default: '500' },
        'end-after': { type: 'string', default: '500' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help) {
      process.stdout.write(usage);
      process.exit(0);
    }
    const splitVersions = values.splits.split(',').filter((word) => word !== '') as SplitVersion[];
    const unknown = splitVersions.filter((version) => !allSplitVersions.includes(version));
    if (unknown.length > 0) throw new Error(`there is no TrafficSplit version ${unknown.join(', ')}`);
    const kubeconfig = resolve(values.kubeconfig);
    if (existsSync(kubeconfig)) {
      throw new Error(`${kubeconfig} is there already. Name another file, or delete it if no cluster serves it.`);
    }
    return {
      kubeconfig,
      splitVersions,
      hasMesh: !values['no-mesh'],
      readyAfterMs: milliseconds('ready-after', values['ready-after']),
      endAfterMs: milliseconds('end-after', values['end-after']),
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`);
    process.exit(2);
  }
}

function milliseconds(name: string, text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new Error(`--${name} takes milliseconds, such as 500`);
  return Number(text);
}

const { kubeconfig, splitVersions, hasMesh, readyAfterMs, endAfterMs } = readOptions();
const began = performance.now();
let serves = false;
const signalled = new Promise<void>((done) => {
  const onSignal = () => (serves ? done() : process.exit(130));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
});
try {
  const cluster = await startRealCluster({
    splitVersions,
    ...(hasMesh ? {} : { adaptor: false }),
    readyAfterMs,
    endAfterMs,
    say: console.log,
  });
  serves = true;
  mkdirSync(dirname(kubeconfig), { recursive: true });
  try {
    copyFileSync(cluster.kubeconfigFile, kubeconfig, constants.COPYFILE_EXCL);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  const { failed } = cluster.controlPlane;
  console.log(`Kubernetes ${kubernetesVersion} at ${cluster.server}, in ${((performance.now() - began) / 1000).toFixed(1)} s.

Its kubeconfig, of an administrator: ${kubeconfig}

  kubectl --kubeconfig ${kubeconfig} get nodes
  kubectl --kubeconfig ${kubeconfig} get trafficsplits -A --watch

CDaaS on it instead of its sandbox, in another terminal:

  npm start -- --kubeconfig ${kubeconfig} --demo

This is a new cluster. Where CDaaS knows an earlier one as "own", add --account own-2, or give it a new data folder:
CDAAS_DATA_DIR=.cdaas-2 npm start -- …

It serves until Ctrl-C; then everything in it is gone.`);
  const trouble = await Promise.race([signalled, failed]);
  if (trouble !== undefined) {
    console.error(trouble.message);
    process.exitCode = 1;
  }
  console.log('Stopping …');
  rmSync(kubeconfig, { force: true });
  await cluster.stop();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
process.exit();

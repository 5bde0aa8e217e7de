import { canHaveKubernetes, kubernetesBinary, kubernetesVersion } from '../support/kubernetes-binary.ts';

// Builds the Kubernetes control plane where it is not built yet: run by scripts/test.mjs ahead of the tests. It ends with 3
// where there is neither a binary nor Go.

if (!canHaveKubernetes()) process.exit(3);
try {
  const { cached, tookMs } = await kubernetesBinary(console.log);
  const how = cached ? 'found as it was built before' : 'built';
  console.log(`Kubernetes ${kubernetesVersion} control plane: ${how}, ${(tookMs / 1000).toFixed(1)} s.`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

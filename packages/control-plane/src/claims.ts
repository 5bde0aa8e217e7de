import type { DeploymentPlan } from '@cdaas/pipeline/plan.ts';
import type { Claim } from './transitions.ts';

/** What a deployment must hold while it runs (design.md, "Concurrency and object claims"). */
export function claimsOf(
  plan: Pick<DeploymentPlan, 'namespace' | 'routes'> & { workloads: { name: string }[] },
  clusterUid: string,
): Claim[] {
  const { namespace, workloads, routes } = plan;
  const claim = (kind: string, name: string): Claim => ({ clusterUid, namespace, kind, name });
  return [
    ...workloads.map(({ name }) => claim('Deployment', name)),
    ...routes.flatMap((route) => [
      claim('Service', route.rootServiceName),
      claim('Service', route.canaryServiceName),
      claim('TrafficSplit', route.trafficSplitName),
    ]),
  ];
}

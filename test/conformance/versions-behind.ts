import { until } from '../support/until.ts';
import type { AnyScene } from '../support/world.ts';

/** The versions (tags of images) of the ready endpoints of a Service. */
export async function versionsBehind({ client, namespace }: AnyScene, root = 'web'): Promise<string[]> {
  const { objects } = await client.list('EndpointSlice', namespace);
  const pods = await client.list('Pod', namespace);
  const image = new Map(pods.objects.map(({ metadata, spec }) => [metadata.name, imageOf(spec)]));
  return objects
    .filter(({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === root)
    .flatMap(({ endpoints }) => (endpoints ?? []) as Endpoint[])
    .filter(({ conditions }) => conditions.ready)
    .map(({ targetRef }) => image.get(targetRef.name) ?? 'none')
    .sort();
}

/**
 * Waits until a Service serves just these versions. A run that no Service splits traffic for waits for pods alone, and the
 * controller of EndpointSlices waits a second before it tries again where it met its own last write.
 */
export async function untilServed(here: AnyScene, wanted: string[], root = 'web'): Promise<void> {
  await until(
    async () => (await versionsBehind(here, root)).join() === wanted.join(),
    `Service ${root} to serve ${wanted.join(', ')}`,
  );
}

type Endpoint = { conditions: { ready?: boolean }; targetRef: { name: string } };

function imageOf(spec: unknown): string {
  return (spec as { containers: { image: string }[] }).containers[0]?.image.split(':').at(-1) ?? '';
}

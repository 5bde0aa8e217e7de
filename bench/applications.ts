/** The weights of a canary of ten steps, and the pause before each where there are pauses. */
export const weights = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
export const pauseMs = 1_000;
export const account = 'bench';

/** So many applications share a namespace: a preflight lists what else is in its own. */
export const perNamespace = 50;

export type Application = { name: string; namespace: string };

export function application(index: number): Application {
  const number = (value: number, digits: number) => String(value).padStart(digits, '0');
  return { name: `app-${number(index, 4)}`, namespace: `bench-${number(Math.floor(index / perNamespace), 2)}` };
}

type Step = { setWeight: { weight: number } } | { pause: { duration: number; unit: string } | { untilApproved: true } };

const pause: Step = { pause: { duration: pauseMs / 1000, unit: 'seconds' } };
const weight = (percent: number): Step => ({ setWeight: { weight: percent } });

/** The weight under which the canaries of one measurement wait for each other. */
export const barrierWeight = 1;
/** The ref of the approval that lets them go. */
export const barrierRef = 'canary-step-2';

export const steps = {
  /** Ten weights, one after the other. */
  withoutPauses: weights.map(weight),
  /** Ten weights, a pause of a second before each but the first. */
  withPauses: weights.flatMap((percent, index) => (index === 0 ? [weight(percent)] : [pause, weight(percent)])),
  /** Wait at 1 % for a word, then ten pauses of a second, each with a weight after it: ideally ten seconds. */
  together: [weight(barrierWeight), { pause: { untilApproved: true } }, ...weights.flatMap((p) => [pause, weight(p)])],
  /** So many weights that a kill comes between two of them. */
  many: Array.from({ length: 99 }, (_, index) => weight(index + 1)),
} satisfies Record<string, Step[]>;

/** A deployment file of one pod behind one Service, as JSON text. */
export function deploymentFile({ name, namespace }: Application, version: number, canary: readonly Step[]): string {
  const labels = { app: name };
  const deployment = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas: 1,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'app', image: `bench:${version}` }] } },
    },
  };
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { selector: labels, ports: [{ port: 80 }] },
  };
  return JSON.stringify({
    version: 'v1',
    kind: 'kubernetes',
    application: name,
    targets: { bench: { account, namespace, strategy: 'steps' } },
    manifests: [deployment, service].map((object) => ({ inline: JSON.stringify(object) })),
    strategies: { steps: { canary: { steps: canary } } },
    trafficManagement: [{ smi: [{ rootServiceName: name }] }],
  });
}

import { request } from 'node:https';
import type { Sandbox } from '@cdaas/sandbox/sandbox.ts';
import { z } from 'zod';

/** Answers of the sample application's two versions, and requests that nobody answered. */
export type Counts = { v1: number; v2: number; failed: number };

/** Callers of the sample application in the sandbox's mesh, and its pods as `kubectl get pods` would show them. */
export type ShopTraffic = {
  /** Sends requests at once and counts who answered. */
  sample(count: number): Counts;
  /** Ready pods of all, by version, such as `3/3`. */
  pods(): Promise<{ v1: string; v2: string }>;
  /** Everything sent since the start. */
  totals(): { sent: number; failed: number };
  stop(): void;
};

const namespace = 'shop';
const service = 'web';
const versionLabel = 'app.kubernetes.io/version';
/** A caller that is always there, so that a gap between two samples would show in the totals. */
const steadyEveryMs = 20;
const steadyCount = 5;

const Pods = z.object({
  items: z.array(
    z.object({
      metadata: z.object({
        labels: z.record(z.string(), z.string()).default({}),
        deletionTimestamp: z.string().optional(),
      }),
      status: z
        .object({ conditions: z.array(z.object({ type: z.string(), status: z.string() })).default([]) })
        .default({ conditions: [] }),
    }),
  ),
});

/** Begins to send as soon as there is a version to answer. */
export function startShopTraffic(sandbox: Pick<Sandbox, 'send' | 'port' | 'caData' | 'token'>): ShopTraffic {
  const total = { sent: 0, failed: 0 };
  let begun = false;

  function sample(count: number): Counts {
    const { answers, failed } = sandbox.send({ namespace, service, count });
    const of = (major: string) =>
      Object.entries(answers)
        .filter(([version]) => version.split('.')[0] === major)
        .reduce((sum, [, answered]) => sum + answered, 0);
    // Before the first version is up there is nobody to call.
    begun ||= failed < count;
    if (begun) {
      total.sent += count;
      total.failed += failed;
    }
    return { v1: of('1'), v2: of('2'), failed };
  }

  const steady = setInterval(() => sample(steadyCount), steadyEveryMs);
  return {
    sample,
    async pods() {
      const { items } = Pods.parse(await getJson(sandbox, `/api/v1/namespaces/${namespace}/pods`));
      const of = (major: string) => {
        const pods = items.filter(
          ({ metadata }) =>
            metadata.deletionTimestamp === undefined && metadata.labels[versionLabel]?.split('.')[0] === major,
        );
        const ready = pods.filter(({ status }) =>
          status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
        );
        return `${ready.length}/${pods.length}`;
      };
      return { v1: of('1'), v2: of('2') };
    },
    totals: () => ({ ...total }),
    stop: () => clearInterval(steady),
  };
}

function getJson({ port, caData, token }: Pick<Sandbox, 'port' | 'caData' | 'token'>, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: '127.0.0.1',
        port,
        path,
        ca: Buffer.from(caData, 'base64'),
        headers: { authorization: `Bearer ${token}`, accept: 'application/json' },
        agent: false,
      },
      (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => {
          text += chunk;
        });
        answer.on('error', reject);
        answer.on('end', () => {
          if (answer.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`the sandbox answered ${answer.statusCode} to GET ${path}`));
        });
      },
    );
    call.on('error', reject);
    call.end();
  });
}

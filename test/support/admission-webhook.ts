import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createAuthority } from './fake-api-server.ts';

/** A validating webhook of admission, as a cluster calls it, which answers as a test tells it to. */
export type AdmissionWebhook = {
  url: string;
  caBundle: string;
  /** Why the next objects are refused; null lets them pass, 'silence' never answers. */
  answer(judge: (object: unknown) => string | null): void;
  close(): Promise<void>;
};

export const silence = 'silence';

export async function startAdmissionWebhook(): Promise<AdmissionWebhook> {
  const authority = await createAuthority('Webhook CA');
  const { certificate, key } = await authority.issue('webhook', ['127.0.0.1']);
  let judge: (object: unknown) => string | null = () => null;
  const server = createServer({ cert: certificate, key }, async (request, response) => {
    let text = '';
    for await (const part of request.setEncoding('utf8')) text += part;
    const review = JSON.parse(text) as { apiVersion: string; kind: string; request: { uid: string; object: unknown } };
    const { apiVersion, kind } = review;
    const { uid, object } = review.request;
    const message = judge(object);
    if (message === silence) return;
    const status = message === null ? {} : { status: { message } };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ apiVersion, kind, response: { uid, allowed: message === null, ...status } }));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    caBundle: Buffer.from(authority.certificate).toString('base64'),
    answer(next) {
      judge = next;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

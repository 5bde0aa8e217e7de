import type { IncomingMessage } from 'node:http';
import { Agent, createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ClusterAddress } from './cluster-client.ts';
import { createAuthority } from './fake-api-server.ts';

/** A request as it came to a cluster: `path` with its query, `status` once it was answered, `token` of whoever sent it. */
export type Recorded = { method: string; path: string; status: number | undefined; token: string };

/** A way to a cluster at another address, with a CA and tokens of its own. */
export type RecordingProxy = {
  /** https://127.0.0.1:<port> */
  server: string;
  /** PEM in base64. */
  caData: string;
  /** The tokens that are accepted, each as the cluster's own; others are answered 401. */
  tokens: Set<string>;
  requests: Recorded[];
  close(): Promise<void>;
};

/** Puts itself before a cluster and records what is asked of it. */
export async function startRecordingProxy(cluster: ClusterAddress, tokens: string[]): Promise<RecordingProxy> {
  const authority = await createAuthority('Proxy CA');
  const { certificate, key } = await authority.issue('proxy', ['127.0.0.1']);
  const agent = new Agent({ ca: Buffer.from(cluster.caData, 'base64').toString(), keepAlive: true });
  const accepted = new Set(tokens);
  const requests: Recorded[] = [];
  const sockets = new Set<Duplex>();

  const server = createServer({ cert: certificate, key }, (asked, answer) => {
    const [, token = ''] = /^Bearer (.+)$/.exec(asked.headers.authorization ?? '') ?? [];
    const recorded: Recorded = { method: asked.method ?? '', path: asked.url ?? '', status: undefined, token };
    requests.push(recorded);
    if (!accepted.has(token)) {
      recorded.status = 401;
      asked.resume();
      answer.writeHead(401, { 'content-type': 'application/json' });
      answer.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', metadata: {}, reason: 'Unauthorized', code: 401 }));
      return;
    }
    const headers = { ...asked.headers, host: new URL(cluster.server).host, authorization: `Bearer ${cluster.token}` };
    const sent = request(`${cluster.server}${asked.url}`, { method: asked.method, headers, agent });
    sent.on('response', (response: IncomingMessage) => {
      recorded.status = response.statusCode;
      answer.writeHead(response.statusCode ?? 502, response.headers);
      answer.flushHeaders();
      response.pipe(answer);
      response.on('error', () => answer.destroy());
    });
    sent.on('error', () => answer.destroy());
    answer.on('close', () => sent.destroy());
    asked.pipe(sent);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    server: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    caData: Buffer.from(authority.certificate).toString('base64'),
    tokens: accepted,
    requests,
    async close() {
      for (const socket of sockets) socket.destroy();
      agent.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

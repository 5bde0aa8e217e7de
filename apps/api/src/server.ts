import type { AddressInfo, Socket } from 'node:net';
import { closeInTurn } from '@cdaas/control-plane/close-in-turn.ts';
import { createEventHub } from '@cdaas/control-plane/events.ts';
import { createSigningKeys } from '@cdaas/control-plane/signing-keys.ts';
import type { FastifyInstance } from 'fastify';
import { buildApp } from './app.ts';
import type { ApiDeps } from './deps.ts';
import { createMetrics, listenMetrics } from './plugins/metrics.ts';

export type ListenOptions = {
  host: string;
  /** 0 takes a free one. */
  port: number;
  /** Of `/metrics`; null leaves it out. */
  metricsPort: number | null;
  /** Loopback unless told. */
  metricsHost?: string;
  /** How long requests in flight may take when it is told to stop. */
  drainSeconds: number;
};

export type RunningApi = { port: number; metricsPort: number | null; close(): Promise<void> };

/**
 * Serves the API until it is closed. Closing ends live streams at once, lets other requests finish, and closes what was
 * opened here; the database and the queue belong to the caller.
 *
 * @throws where a port is taken
 */
export async function startApi(
  given: Omit<ApiDeps, 'events' | 'signingKeys' | 'metrics'>,
  { host, port, metricsPort, metricsHost = '127.0.0.1', drainSeconds }: ListenOptions,
): Promise<RunningApi> {
  const { db, vault, log } = given;
  const metrics = createMetrics();
  const events = await createEventHub({ db, log });
  const app = await buildApp({ ...given, events, metrics, signingKeys: createSigningKeys({ db, vault }) });
  const closing: (() => Promise<void>)[] = [() => events.close()];
  const close = () => closeInTurn(closing);
  const sockets = new Set<Socket>();
  app.server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  try {
    await app.listen({ host, port });
    closing.push(() => drain(app, sockets, drainSeconds));
    let metricsAt: number | null = null;
    if (metricsPort !== null) {
      const server = await listenMetrics(metrics, metricsHost, metricsPort);
      closing.push(async () => {
        server.close();
        server.closeAllConnections();
      });
      metricsAt = portOf(server.address());
    }
    return { port: portOf(app.server.address()), metricsPort: metricsAt, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Waits for requests in flight, but not for ever; connections that have none are closed as they become idle. One that a
 * client opened ahead of a request it never sent is not idle to node, so it is told by having sent nothing.
 */
async function drain(app: FastifyInstance, sockets: Iterable<Socket>, seconds: number): Promise<void> {
  const idle = setInterval(() => {
    app.server.closeIdleConnections();
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  }, 50);
  const late = setTimeout(() => app.server.closeAllConnections(), seconds * 1000);
  await app.close();
  clearInterval(idle);
  clearTimeout(late);
}

function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('the server does not listen on a port');
  return address.port;
}

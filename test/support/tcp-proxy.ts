import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/**
 * A way to a server that can be cut: `down` ends what runs over it and each later attempt at once, `up` lets them pass.
 * `silent` loses without a word what is sent over the connections there are, for ever.
 */
export type TcpProxy = {
  port: number;
  down(): void;
  up(): void;
  silent(): void;
  /** When each attempt while it was down arrived, in ms of performance.now(). */
  attempts: number[];
  close(): Promise<void>;
};

export async function startTcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const open = new Set<Socket>();
  const attempts: number[] = [];
  let isUp = true;
  const server = createServer((near) => {
    near.on('error', () => {});
    if (!isUp) {
      attempts.push(performance.now());
      near.resetAndDestroy();
      return;
    }
    const far = connect(target.port, target.host);
    far.on('error', () => {});
    for (const socket of [near, far]) open.add(socket);
    near.on('close', () => {
      open.delete(near);
      far.destroy();
    });
    far.on('close', () => {
      open.delete(far);
      near.destroy();
    });
    near.pipe(far);
    far.pipe(near);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy does not listen on a port');
  const cut = () => {
    for (const socket of open) socket.resetAndDestroy();
  };
  return {
    port: address.port,
    down() {
      isUp = false;
      cut();
    },
    up() {
      isUp = true;
    },
    silent() {
      for (const socket of open) socket.unpipe().on('data', () => {});
    },
    attempts,
    async close() {
      cut();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

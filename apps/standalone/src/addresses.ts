import { createServer } from 'node:net';
import { type Again, createAgain } from './again.ts';
import { Remedy, systemCode } from './remedy.ts';

/**
 * The port to listen on: the one asked for, or for 0 one that is free. Looked at before anything else is started, so that
 * a taken port is told at once.
 *
 * @param variable what chooses the port
 * @throws Remedy where the port is taken or may not be used
 */
export async function portToListenOn(
  host: string,
  port: number,
  again: Again = createAgain({}, []),
  variable: 'PORT' | 'METRICS_PORT' = 'PORT',
): Promise<number> {
  const found = await tryPort(host, port);
  if (typeof found === 'number') return found;
  const where = `${host}:${port}`;
  const another = `choose another port (${variable}=0 takes a free one):\n  ${again({ env: { [variable]: String(port + 1) } })}`;
  if (found === 'EADDRINUSE')
    throw new Remedy(
      `${where} is in use by another program.\nStop that program (lsof -i :${port} shows it), or ${another}`,
    );
  if (found === 'EACCES')
    throw new Remedy(`This user may not listen on ${where}.\nPorts below 1024 need rights; ${another}`);
  throw new Remedy(`CDaaS cannot listen on ${where} (${found}).\nHOST must be an address of this machine.`);
}

/** Whether a port of loopback is free. */
export async function isFree(port: number): Promise<boolean> {
  return typeof (await tryPort('127.0.0.1', port)) === 'number';
}

function tryPort(host: string, port: number): Promise<number | string> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => resolve(systemCode(error) ?? String(error)));
    server.listen(port, host, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : port));
    });
  });
}

/** Where callers on this machine reach a server that listens on `host`. */
export function localUrl(host: string, port: number): string {
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}

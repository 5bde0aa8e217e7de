import pg from 'pg';
import type { Database } from './db.ts';

const reconnectAfterMs = 500;

/**
 * Calls back after each commit that added events, on a connection of its own. NOTIFY carries no payload and may be merged
 * or, while reconnecting, missed: the callback looks what is new, and is called after each reconnect too. A slow poll
 * beside it stays the reader's duty.
 */
export async function listenForEvents(
  db: Pick<Database, 'url'>,
  onNotify: () => void,
  onError: (error: Error) => void = () => {},
): Promise<{ close(): Promise<void> }> {
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  const connect = async () => {
    const next = new pg.Client({ connectionString: db.url, application_name: 'cdaas events', keepAlive: true });
    let lost = false;
    const lose = (error?: Error) => {
      if (lost) return;
      lost = true;
      if (closed) return;
      if (error) onError(error);
      next.end().catch(() => {});
      retry();
    };
    next.on('error', lose);
    next.on('end', () => lose());
    next.on('notification', onNotify);
    await next.connect();
    await next.query('listen cdaas_events');
    client = next;
    if (closed) await next.end();
  };
  const retry = () => {
    timer = setTimeout(() => {
      connect().then(onNotify, (error: Error) => {
        onError(error);
        if (!closed) retry();
      });
    }, reconnectAfterMs);
  };

  await connect();
  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      await client?.end().catch(() => {});
    },
  };
}

import type { Database } from './db.ts';
import { type ConnectionReports, keepConnected } from './keep-connected.ts';

/**
 * Calls back after each commit that added events, on a connection of its own. NOTIFY carries no payload and may be merged
 * or, while reconnecting, missed: the callback looks what is new, and is called after each reconnect too. A slow poll
 * beside it stays the reader's duty.
 *
 * @param reports told of each time that the connection is lost, and when it is back
 * @throws where the server cannot be reached at first
 */
export async function listenForEvents(
  db: Pick<Database, 'url'>,
  onNotify: () => void,
  reports: ConnectionReports = {},
): Promise<{ close(): Promise<void> }> {
  return keepConnected({
    url: db.url,
    applicationName: 'cdaas events',
    async prepare(client) {
      client.on('notification', onNotify);
      await client.query('listen cdaas_events');
    },
    ...reports,
    onBack() {
      reports.onBack?.();
      onNotify();
    },
  });
}

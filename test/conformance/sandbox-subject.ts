import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSandbox } from '@cdaas/sandbox/sandbox.ts';
import { createClient } from '../sandbox/client.ts';
import type { Subject } from './suite.ts';

export async function openSandboxSubject(): Promise<Subject> {
  const dataDir = mkdtempSync(join(tmpdir(), 'cdaas-conformance-'));
  // A start forgets the history up to the one before, so that version 1 is too old, as in a cluster that has run long.
  for (let starts = 0; starts < 2; starts++) await (await startSandbox({ dataDir })).stop();
  const sandbox = await startSandbox({ dataDir, log: console.error });
  sandbox.faults.readyAfterMs = { min: 5, max: 20 };
  sandbox.faults.graceMs = 100;
  const client = createClient(sandbox);
  const refusals = new Map<string, string>();
  sandbox.intercept = async ({ path }, phase) => {
    const [, namespace = ''] = /\/namespaces\/([^/]+)\/configmaps/.exec(path) ?? [];
    const message = refusals.get(namespace);
    return message !== undefined && phase === 'before' ? { code: 422, reason: 'Invalid', message } : 'continue';
  };
  return {
    client,
    async refuseConfigMaps(namespace, message) {
      refusals.set(namespace, message);
    },
    async close() {
      client.close();
      await sandbox.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

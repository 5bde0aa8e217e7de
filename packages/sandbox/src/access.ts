/** How clients reach the cluster and prove themselves: kept in one file, so that a restart changes none of it. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ServerIdentity } from './certificates.ts';
import { writeFileAtomically } from './persistence.ts';

export const host = '127.0.0.1';

/** A port of 0 was not chosen yet. */
export type Access = ServerIdentity & { token: string; port: number };

const fileIn = (dataDir: string) => join(dataDir, 'access.json');

/** What an earlier start left in the folder, else a new identity and token. */
export async function loadAccess(dataDir: string): Promise<Access> {
  const file = fileIn(dataDir);
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Access;
  // Imported only here: it costs 140 ms and 40 MB, and every start but the first does without.
  const { createServerIdentity } = await import('./certificates.ts');
  return { ...(await createServerIdentity()), token: randomBytes(32).toString('base64url'), port: 0 };
}

export function saveAccess(dataDir: string, access: Access): void {
  writeFileAtomically(fileIn(dataDir), JSON.stringify(access));
}

export function kubeconfigFor(server: string, caData: string, token: string): string {
  return `apiVersion: v1
kind: Config
clusters:
  - name: sandbox
    cluster:
      server: ${server}
      certificate-authority-data: ${caData}
users:
  - name: sandbox
    user:
      token: ${token}
contexts:
  - name: sandbox
    context:
      cluster: sandbox
      user: sandbox
current-context: sandbox
`;
}

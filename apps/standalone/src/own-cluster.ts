import { promises } from 'node:dns';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { RbacQuery } from '@cdaas/contract/clusters.ts';
import { AppError } from '@cdaas/contract/errors.ts';
import { changeCluster } from '@cdaas/control-plane/clusters/change.ts';
import { type ClusterAccessProblem, parseClusterAccess } from '@cdaas/control-plane/clusters/kubeconfig.ts';
import { rbacWanted, renderRbac } from '@cdaas/control-plane/clusters/rbac-manifest.ts';
import { registerCluster } from '@cdaas/control-plane/clusters.ts';
import type { OutboundRule } from '@cdaas/control-plane/outbound.ts';
import type { CallerContext } from '@cdaas/control-plane/principals.ts';
import { type Again, nextName } from './again.ts';
import type { OwnOptions } from './config.ts';
import { type DataDir, writePrivate } from './data-dir.ts';
import { Remedy, systemCode } from './remedy.ts';

/** A cluster that `--kubeconfig` names, used instead of the sandbox. */
export type OwnCluster = OwnOptions & {
  /** URL of the API server. */
  server: string;
  /** The text of the kubeconfig. */
  text: string;
};

/**
 * Reads the kubeconfig before anything is started. Like one that is uploaded it may neither run programs nor name files.
 *
 * @throws Remedy with everything in it that is refused
 */
export function readOwnCluster(options: OwnOptions): OwnCluster {
  const { kubeconfig, context } = options;
  let text: string;
  try {
    text = readFileSync(kubeconfig, 'utf8');
  } catch (cause) {
    throw new Remedy(readTrouble(kubeconfig, systemCode(cause) ?? String(cause)), { cause });
  }
  const parsed = parseClusterAccess({ kubeconfig: text, ...(context === undefined ? {} : { context }) });
  if (parsed.ok) return { ...options, text, server: parsed.access.server };
  throw new Remedy(`${kubeconfig} cannot be used:\n${parsed.problems.map(problemWords).join('')}`);
}

/** Why a kubeconfig cannot be read. */
function readTrouble(path: string, code: string): string {
  const words = `The kubeconfig ${path} cannot be read (${code})`;
  const parts = path.split(/[/\\]/);
  if (code === 'EISDIR') return `${words}: it is a folder. Name the file in it.`;
  if (code === 'EACCES') return `${words}: this user may not. Who may is shown by: ls -l ${path}`;
  if (code !== 'ENOENT') return `${words}.`;
  if (parts.includes('.cdaas-cluster'))
    return `${words}.\n\`npm run cluster\` writes it; is it running, in another terminal?`;
  if (parts.includes('~')) return `${words}: a shell expands ~ only outside of quotes. Write "$HOME/…".`;
  return `${words}: there is no such file.`;
}

function problemWords({ message, line, hint }: ClusterAccessProblem): string {
  return `  ${line === undefined ? '' : `line ${line}: `}${message}${hint === undefined ? '' : `\n    ${hint}`}\n`;
}

/**
 * Lets the control plane reach exactly the addresses that the API server has now, at its port.
 *
 * @throws Remedy where its name has none
 */
export async function rulesFor({ server }: OwnCluster): Promise<OutboundRule[]> {
  const { hostname, port } = new URL(server);
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const found = await promises.lookup(host, { all: true }).catch((cause: unknown) => {
    throw new Remedy(
      `The API server's name ${host} has no address (${systemCode(cause) ?? String(cause)}).\n` +
        `Is 'server' in the kubeconfig right, and does this machine reach the cluster's network (VPN, DNS)?`,
      { cause },
    );
  });
  return found.map(({ address }) => ({
    purpose: 'cluster',
    network: address,
    prefix: isIP(address) === 6 ? 128 : 32,
    port: port === '' ? 443 : Number(port),
  }));
}

/**
 * Registers the cluster by the same use case as POST /clusters, or brings what is registered under its account up to date.
 *
 * @returns whether it is new here, and what is wrong where it is known but does not answer now
 * @throws Remedy where it cannot be used
 */
export async function registerOwnCluster(
  ctx: CallerContext,
  dir: DataDir,
  { account, context, text, server }: OwnCluster,
  again: Again,
): Promise<{ isNew: boolean; trouble: string | null }> {
  const how = { kubeconfig: text, ...(context === undefined ? {} : { context }) };
  try {
    await registerCluster(ctx, { name: account, ...how });
    return { isNew: true, trouble: null };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    if (error.code !== 'name.duplicate') throw refusal(dir, server, error);
  }
  try {
    await changeCluster(ctx, { name: account, change: how });
    return { isNew: false, trouble: null };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    if (error.code === 'cluster.unreachable') return { isNew: false, trouble: error.message };
    throw refusal(dir, server, error, elsewhere(dir, account, again));
  }
}

/** Where another cluster is registered under the account: how to go on beside it. */
function elsewhere({ path }: DataDir, account: string, again: Again): string {
  const account2 = again({ account: nextName(account) });
  const folder2 = again({ env: { CDAAS_DATA_DIR: nextName(path) } });
  return `To go on under another account:\n  ${account2}\nor with a new data folder:\n  ${folder2}`;
}

/** What stands in the way and what helps. For missing rights RBAC is written that has them. */
function refusal(dir: DataDir, server: string, cause: AppError, goOn?: string): Remedy {
  const words = cause.violations.map(({ message }) => `  ${message}\n`).join('');
  if (cause.code === 'cluster.permission') {
    writePrivate(dir.rbacFile, renderRbac(rbacWanted(RbacQuery.parse({}))));
    const hint = `What it needs is in ${dir.rbacFile}: kubectl apply -f it, and use the token of its ServiceAccount.`;
    return new Remedy(`The cluster at ${server} does not let the credential do what it takes:\n${words}${hint}`, {
      cause,
    });
  }
  const [{ hint }] = cause.violations;
  const helps = [hint, cause.code === 'cluster.refused' ? goOn : undefined].filter((each) => each !== undefined);
  return new Remedy(`The cluster at ${server} cannot be registered:\n${words}${helps.join('\n')}`.trimEnd(), { cause });
}

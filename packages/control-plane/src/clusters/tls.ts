import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect } from 'node:tls';
import { shownText } from '@cdaas/contract/text.ts';
import type { Outbound } from '../outbound.ts';

const timeoutMs = 5_000;

/**
 * What is wrong with the certificate chain that a server shows, in words that say what to mend: looked at in a connection
 * of its own that trusts nothing and over which nothing is sent, after a real one failed. Names in it are the server's
 * word, cut and freed of control characters.
 *
 * @returns undefined where the server shows nothing to explain the failure by
 */
export async function explainTls(
  { server, caData }: { server: string; caData: string },
  outbound: Outbound,
  { now, signal }: { now: Date; signal: AbortSignal },
): Promise<string | undefined> {
  const { hostname, port } = new URL(server);
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const verdict = await outbound.check('cluster', host, Number(port || 443));
  const [address] = verdict.ok ? verdict.addresses : [];
  if (!address || signal.aborted) return undefined;
  const shown = await chainShown(address.address, Number(port || 443), host, caData, signal);
  if (shown === undefined) return undefined;
  if (shown === 'not TLS') return 'what listens at this address does not speak TLS; is it the port of an API server?';
  return wrongWith(shown, caData, host, now);
}

type Shown = { leaf: X509Certificate; authorizationError: string };

function chainShown(
  address: string,
  port: number,
  host: string,
  ca: string,
  signal: AbortSignal,
): Promise<Shown | 'not TLS' | undefined> {
  return new Promise((resolve) => {
    // Nothing is sent over it, so that it does not matter whom it trusts.
    const socket = connect({
      host: address,
      port,
      ca,
      rejectUnauthorized: false,
      timeout: timeoutMs,
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    const finish = (shown: Shown | 'not TLS' | undefined) => {
      socket.destroy();
      resolve(shown);
    };
    signal.addEventListener('abort', () => finish(undefined), { once: true });
    socket.once('secureConnect', () => {
      const leaf = socket.getPeerX509Certificate();
      const authorizationError = String(socket.authorizationError ?? '');
      finish(leaf && { leaf, authorizationError });
    });
    socket.once('timeout', () => finish(undefined));
    socket.once('error', (error) => {
      const code = 'code' in error ? String(error.code) : '';
      finish(code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'EPROTO' ? 'not TLS' : undefined);
    });
  });
}

function wrongWith({ leaf, authorizationError }: Shown, caData: string, host: string, now: Date) {
  const from = new Date(leaf.validFrom);
  const until = new Date(leaf.validTo);
  if (until < now) return `the server’s certificate ended ${day(until)}; renew it`;
  if (from > now) return `the server’s certificate begins only ${day(from)}; is a clock wrong?`;
  const registered = (caData.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (pem) => new X509Certificate(pem),
  );
  const ended = registered.filter(({ validTo }) => new Date(validTo) < now);
  if (registered.length > 0 && ended.length === registered.length) {
    return `the CA that was given (${name(registered[0]?.subject)}) ended ${day(new Date(registered[0]?.validTo ?? ''))}; give the one in force`;
  }
  if (authorizationError !== '' && !/HOST|ALTNAME/.test(authorizationError)) {
    const issuer = name(leaf.issuer);
    if (leaf.issuer === leaf.subject) {
      return `the server shows a certificate that it signed itself (${issuer}), and that is not in the CA that was given (${list(registered)})`;
    }
    return registered.some(({ subject }) => subject === leaf.issuer)
      ? `the server’s certificate names ${issuer} as its issuer, but the CA of that name that was given did not sign it: another CA of the same name did, as after a cluster was made anew`
      : `the server’s certificate was issued by ${issuer}, and the CA that was given is ${list(registered)}; give the root of its chain, with what lies between if the server does not send that`;
  }
  const isNamed = isIP(host) === 0 ? leaf.checkHost(host) : leaf.checkIP(host);
  if (isNamed === undefined) {
    return `the server’s certificate is for ${names(leaf)}, not for ${host}; register the cluster by one of those names`;
  }
  return undefined;
}

function list(certificates: readonly X509Certificate[]): string {
  return certificates
    .slice(0, 3)
    .map(({ subject }) => name(subject))
    .join('; ');
}

/** `CN=kubernetes, O=…` on one line. */
function name(subject: string | undefined): string {
  return shownText((subject ?? '').split('\n').join(', '), 150) || 'a certificate without a name';
}

function names({ subjectAltName }: X509Certificate): string {
  const alternatives = (subjectAltName ?? '').replaceAll('IP Address:', '').replaceAll('DNS:', '');
  return shownText(alternatives, 300) || 'no name at all';
}

function day(at: Date): string {
  return Number.isNaN(at.getTime()) ? 'at a time that cannot be read' : at.toISOString().slice(0, 16).replace('T', ' ');
}

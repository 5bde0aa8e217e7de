import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** A certificate and its private key, PEM. */
export type KeyPair = { certificate: string; key: string };

/** A certificate authority of its own, that signs what one cluster needs. */
export type Authority = {
  certificate: string;
  /** A server certificate for the loopback names. */
  forServer(): Promise<KeyPair>;
  /** A client certificate: Kubernetes takes its common name as the user, its organisations as the groups. */
  forClient(user: string, groups?: string[]): Promise<KeyPair>;
};

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const validForMs = 30 * 24 * 3600 * 1000;

export async function createAuthority(name: string): Promise<Authority> {
  const notBefore = new Date(Date.now() - 60_000);
  const validity = { notBefore, notAfter: new Date(notBefore.getTime() + validForMs), signingAlgorithm: algorithm };
  const keys = await webcrypto.subtle.generateKey(algorithm, false, ['sign', 'verify']);
  const authority = await x509.X509CertificateGenerator.createSelfSigned(
    {
      ...validity,
      serialNumber: serialNumber(),
      name: [{ CN: [name] }],
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      ],
    },
    webcrypto,
  );

  async function sign(subject: x509.JsonName, extensions: x509.Extension[]): Promise<KeyPair> {
    const pair = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const certificate = await x509.X509CertificateGenerator.create(
      {
        ...validity,
        serialNumber: serialNumber(),
        subject,
        issuer: authority.subject,
        publicKey: pair.publicKey,
        signingKey: keys.privateKey,
        extensions,
      },
      webcrypto,
    );
    const key = await webcrypto.subtle.exportKey('pkcs8', pair.privateKey);
    return { certificate: certificate.toString('pem'), key: x509.PemConverter.encode(key, 'PRIVATE KEY') };
  }

  return {
    certificate: authority.toString('pem'),
    forServer: () =>
      sign(
        [{ CN: [`${name}-server`] }],
        [
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
          new x509.SubjectAlternativeNameExtension([
            { type: 'ip', value: '127.0.0.1' },
            { type: 'dns', value: 'localhost' },
          ]),
        ],
      ),
    forClient: (user, groups = []) =>
      sign(
        [...groups.map((group) => ({ O: [group] })), { CN: [user] }],
        [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])],
      ),
  };
}

/** 16 bytes of which the first is small, so that the ASN.1 integer is positive. */
function serialNumber(): string {
  return `01${randomBytes(15).toString('hex')}`;
}

import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { readBody } from './http.ts';

test('who sends protobuf is told how to send JSON, for a token with the whole command', async () => {
  const ask = (url: string) => {
    const headers = { 'content-type': 'application/vnd.kubernetes.protobuf' };
    return readBody(Object.assign(Readable.from([Buffer.from('k8s')]), { headers, url }) as never);
  };
  await assert.rejects(
    ask('/api/v1/namespaces'),
    /the sandbox reads JSON only, not application\/vnd\.kubernetes\.protobuf; /,
  );
  await assert.rejects(
    ask('/api/v1/namespaces/cdaas/serviceaccounts/cdaas/token'),
    /TokenRequest.* \| kubectl create --raw \/api\/v1\/namespaces\/cdaas\/serviceaccounts\/cdaas\/token -f -/,
  );
});

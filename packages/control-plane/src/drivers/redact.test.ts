import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { redactSecrets } from './redact.ts';

const secret = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'passwords' },
  stringData: { a: 'hunter22', key: '-----BEGIN\nabc"def\n-----END' },
  data: { b: Buffer.from('correct horse').toString('base64') },
};

describe('A text of a cluster', () => {
  const told = [
    ['as it is', 'invalid value: "hunter22"', 'invalid value: "[redacted]"'],
    ['in base64', `data[a]: ${Buffer.from('hunter22').toString('base64')}`, 'data[a]: [redacted]'],
    ['decoded from data', 'not a horse: correct horse!', 'not a horse: [redacted]!'],
    ['as written in data', `data[b]: ${secret.data.b}`, 'data[b]: [redacted]'],
    ['escaped within JSON', 'body: {"key":"-----BEGIN\\nabc\\"def\\n-----END"}', 'body: {"key":"[redacted]"}'],
    ['twice', 'hunter22hunter22', '[redacted][redacted]'],
  ] as const;
  for (const [form, text, expected] of told) {
    it(`loses the value of a Secret ${form}`, () => assert.equal(redactSecrets(text, [secret]), expected));
  }

  it('keeps what other objects hold, and short words', () => {
    const short = { ...secret, stringData: { a: 'on' }, data: {} };
    const map = { ...secret, kind: 'ConfigMap' };
    assert.equal(redactSecrets('hunter22 is on', [short, map]), 'hunter22 is on');
  });
});

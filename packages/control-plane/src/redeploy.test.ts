import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '@cdaas/contract/errors.ts';
import { pipelineOfLocation } from './redeploy.ts';

const id = '0199f6f0-3c5e-7000-8000-000000000001';

test('the id of a pipeline is read from the path, whatever address the client knows the server by', () => {
  for (const address of ['http://127.0.0.1:8080', 'https://cdaas.example.org', 'http://[::1]:80', 'http://user@x']) {
    assert.equal(pipelineOfLocation(`armory::${address}/pipelines/${id}/config`), id);
  }
  assert.equal(pipelineOfLocation(`armory::http://x/pipelines/${id.toUpperCase()}/config`), id);
  assert.equal(pipelineOfLocation('armory::http://x/pipelines/No-UUID/config'), 'No-UUID');
});

test('everything else is refused by name, and no credential in it is repeated', () => {
  const cases: [string | undefined, string][] = [
    [undefined, 'field.required'],
    [' ', 'field.required'],
    ['https://example.org/file.yaml', 'step.unsupported'],
    ['HTTP://example.org/file.yaml', 'step.unsupported'],
    ['https://user:planted@example.org/file.yaml?token=planted#planted', 'step.unsupported'],
    ['https://[', 'step.unsupported'],
    ['armory::', 'request.invalid'],
    [`armory::/pipelines/${id}/config`, 'request.invalid'],
    [`armory::ftp://x/pipelines/${id}/config`, 'request.invalid'],
    [`armory::http://x/pipelines/${id}`, 'request.invalid'],
    [`armory::http://x/pipelines/${id}/config?x`, 'request.invalid'],
    [`armory::http://x/pipelines/../pipelines/${id}/config`, 'request.invalid'],
    [`armory::http://x/other/pipelines/${id}/config`, 'request.invalid'],
    [`armory::http://x/pipelines/${id}/config, armory::http://x/pipelines/${id}/config`, 'request.invalid'],
    ['s3::https://bucket/file.yaml', 'request.invalid'],
    ['file:///etc/passwd', 'request.invalid'],
  ];
  for (const [location, code] of cases) {
    assert.throws(
      () => pipelineOfLocation(location),
      (error) => error instanceof AppError && error.code === code && !error.message.includes('planted'),
      String(location),
    );
  }
});

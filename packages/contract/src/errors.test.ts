import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileErrorCodes } from '@cdaas/pipeline/file/violations.ts';
import { AppError, ErrorBody, errorCodes, toErrorBody } from './errors.ts';

test('every code of a deployment file is in the table, as 422, unreadable ones as 400', () => {
  for (const code of fileErrorCodes) {
    const { status } = errorCodes[code];
    // A name that is taken is a conflict where it is of a thing that exists; within a file it is one violation of many.
    if (code !== 'name.duplicate') assert.equal(status, code === 'file.syntax' ? 400 : 422, code);
  }
});

test('every status is one that the API gives', () => {
  for (const [code, { status, title }] of Object.entries(errorCodes)) {
    assert.ok([400, 401, 403, 404, 409, 413, 415, 421, 422, 429, 500, 501, 503].includes(status), code);
    assert.ok(title.length > 0);
  }
});

test('many violations make one error: 422, or 400 where one says that nothing could be read', () => {
  const range = { code: 'weight.range', message: 'w' } as const;
  const duplicate = { code: 'name.duplicate', message: 'd' } as const;
  assert.equal(AppError.ofViolations([duplicate, range]).status, 422);
  assert.equal(AppError.ofViolations([range, { code: 'file.syntax', message: 's' }]).status, 400);
  assert.equal(AppError.ofViolations([range, duplicate]).violations.length, 2);
});

test('the body of an error holds flat strings and no cause', () => {
  const error = new AppError('not.found', 'no', { path: '/a', line: 3, hint: 'h', cause: new Error('planted') });
  const body = toErrorBody('id', error.violations);
  assert.deepEqual(body, {
    error_id: 'id',
    errors: [{ code: 'not.found', message: 'no', metadata: { path: '/a', line: '3', hint: 'h' } }],
  });
  assert.deepEqual(ErrorBody.parse(body), body);
  assert.ok(!JSON.stringify(body).includes('planted'));
});

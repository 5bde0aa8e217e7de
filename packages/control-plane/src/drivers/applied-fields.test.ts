import assert from 'node:assert/strict';
import { it } from 'node:test';
import { managersAsApplied } from './applied-fields.ts';

const entry = (manager: string, operation: string, more = {}) => ({ manager, operation, fieldsV1: {}, ...more });
const answer = (...managedFields: unknown[]) => ({ metadata: { managedFields } });

it('What this control plane set by a POST is managed as by an apply; the entries of others stay as they are', () => {
  const other = entry('kubectl', 'Update');
  const status = entry('cdaas', 'Update', { subresource: 'status' });
  assert.deepEqual(managersAsApplied(answer(other, entry('cdaas', 'Update'), status)), [
    other,
    entry('cdaas', 'Apply'),
    status,
  ]);
});

it('Where there is nothing to hand over, or two entries would be one, nothing is changed', () => {
  for (const body of [
    answer(),
    answer(entry('kubectl', 'Update'), null),
    answer(entry('cdaas', 'Apply')),
    answer(entry('cdaas', 'Apply'), entry('cdaas', 'Update')),
    { metadata: {} },
    { metadata: { managedFields: 'none' } },
    'text',
  ]) {
    assert.equal(managersAsApplied(body), undefined);
  }
});

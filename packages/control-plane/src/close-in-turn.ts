/**
 * Closes parts one after the other. One that fails does not keep the rest open.
 *
 * @throws what failed, once everything else is closed; an AggregateError where it was several
 */
export async function closeInTurn(closes: Iterable<() => Promise<void>>): Promise<void> {
  const failures: unknown[] = [];
  for (const close of closes) await close().catch((error: unknown) => failures.push(error));
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, 'several parts did not close in order');
}

/** An entry that must be there, because whoever asks was told its index. @throws by index where it is not */
export function entryAt<T>(list: readonly T[], index: number): T {
  const entry = list[index];
  if (entry === undefined) throw new Error(`there is no entry ${index} among ${list.length}`);
  return entry;
}

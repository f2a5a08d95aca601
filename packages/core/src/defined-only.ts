/** Without entries that are there and undefined, which would hide a default. */
export function definedOnly<Value extends object>(value: Value | undefined): Partial<Value> {
  const entries = Object.entries(value ?? {}).filter(([, one]) => one !== undefined);
  return Object.fromEntries(entries) as Partial<Value>;
}

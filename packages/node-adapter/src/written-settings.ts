/** The name in `{ "$variable": NAME }`. */
export function variableReference(value: object): string | undefined {
  const name = (value as { $variable?: unknown }).$variable;
  return typeof name === 'string' && Object.keys(value).length === 1 ? name : undefined;
}

/** Settings as their author wrote them. */
export interface WrittenSettings {
  readonly settings: unknown;
  /** Which of them are a variable of the flow as a whole, by the setting's name: `details` for `{{ variables.details }}`. */
  readonly variables: ReadonlyMap<string, string>;
}

/** An expression that is a variable of the flow: `{{ variables.details }}` or `{{ variables["details"] }}`. */
const variableExpression =
  /^\s*\{\{-?\s*variables\s*(?:\.\s*([\p{L}\p{N}\p{M}_?-]+)|\[\s*(?:"([^"]+)"|'([^']+)')\s*\])\s*-?\}\}\s*$/u;

/** @returns the settings with the variables they are, whichever way that is written. */
export function readWritten(settings: unknown): WrittenSettings {
  const variables = new Map<string, string>();
  for (const [key, value] of Object.entries(settings ?? {})) {
    const text =
      typeof value === 'string' ? variableExpression.exec(value)?.slice(1).find(Boolean) : undefined;
    const name = typeof value === 'object' && value !== null ? variableReference(value) : text;
    if (name !== undefined) variables.set(key, name);
  }
  return { settings, variables };
}

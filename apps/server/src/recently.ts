/**
 * Asks once for all who ask at about the same time.
 *
 * @param forMs how long an answer is good, in milliseconds from when it came. A failure is good for nobody else.
 */
export function recently<Value>(ask: () => Promise<Value>, forMs: number): () => Promise<Value> {
  let known: { readonly answer: Promise<Value>; until: number } | undefined;
  return () => {
    if (known && performance.now() < known.until) return known.answer;
    const asked = { answer: ask(), until: Number.POSITIVE_INFINITY };
    known = asked;
    asked.answer.then(
      () => {
        asked.until = performance.now() + forMs;
      },
      () => {
        asked.until = 0;
      },
    );
    return asked.answer;
  };
}

/**
 * Does work with no more than so many at once; the others wait in the order they came.
 *
 * @param most at once.
 * @param signal once it is aborted, what has not begun fails with its reason.
 */
export function atMost(
  most: number,
  signal?: AbortSignal,
): <Result>(work: () => Result | Promise<Result>) => Promise<Result> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running < most) running++;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      signal?.throwIfAborted();
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}

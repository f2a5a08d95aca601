/** Runs work the flow does not wait for. */
export interface BackgroundRunner {
  /** Starts the task and returns at once. A task reports its own failures; it should not reject. */
  run(task: () => Promise<void>): void;
  /** Resolves when everything started so far has ended. */
  drain(): Promise<void>;
}

/** Runs tasks in this process. What is not drained before the process exits is lost. */
export class InProcessRunner implements BackgroundRunner {
  readonly #running = new Set<Promise<void>>();

  run(task: () => Promise<void>): void {
    const running = Promise.resolve()
      .then(task)
      .catch(() => undefined)
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}

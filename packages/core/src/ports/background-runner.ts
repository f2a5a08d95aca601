/** Runs work the flow does not wait for. */
export interface BackgroundRunner {
  /** Starts the task and returns at once. A task reports its own failures; it should not reject. */
  run(task: () => Promise<void>): void;
}

/** Runs tasks in this process. What has not ended when the process exits is lost. */
export class InProcessRunner implements BackgroundRunner {
  run(task: () => Promise<void>): void {
    Promise.resolve()
      .then(task)
      .catch(() => undefined);
  }
}

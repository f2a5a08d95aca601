import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** What is counted, in the form Prometheus reads. No label holds an address, a subject or anything else of a message. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #accepted = this.#counter('flowpost_accepted_total', 'Deliveries taken in.', ['mode']);
  readonly #delivered = this.#counter(
    'flowpost_delivered_total',
    'Deliveries a server took, and those found to be sent before.',
    ['status'],
  );
  readonly #failed = this.#counter('flowpost_failed_attempts_total', 'Attempts that failed.', [
    'code',
    'phase',
    'state',
  ]);
  readonly #requests = this.#counter('flowpost_http_requests_total', 'HTTP requests.', ['route', 'status']);
  readonly #latency = new Histogram({
    name: 'flowpost_delivery_seconds',
    help: 'How long one attempt took that ended well.',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [this.#registry],
  });
  readonly #database = this.#gauge(
    'flowpost_database_up',
    'Whether the database answers (1) or not (0), in which case nothing is known of what is in it.',
    [],
  );
  readonly #depth = this.#gauge('flowpost_deliveries', 'Deliveries that have not ended, by state.', [
    'state',
  ]);
  readonly #age = this.#gauge(
    'flowpost_oldest_delivery_seconds',
    'How long the oldest delivery of a state has been there.',
    ['state'],
  );
  readonly #expiry = this.#gauge(
    'flowpost_credential_expires_seconds',
    'How long a credential of a connection is still good.',
    ['connection', 'what'],
  );

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: Label[]): Gauge<Label> {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] });
  }

  accepted(mode: 'sync' | 'async'): void {
    this.#accepted.inc({ mode });
  }

  delivered(status: string, seconds: number): void {
    this.#delivered.inc({ status });
    this.#latency.observe(seconds);
  }

  failed(code: string, phase: string, state: string): void {
    this.#failed.inc({ code, phase, state });
  }

  request(route: string, status: number): void {
    this.#requests.inc({ route, status: String(status) });
  }

  database(isUp: boolean): void {
    this.#database.set(isUp ? 1 : 0);
  }

  depth(
    states: readonly { readonly state: string; readonly count: number; readonly ageSeconds: number }[],
  ): void {
    this.#depth.reset();
    this.#age.reset();
    for (const { state, count, ageSeconds } of states) {
      this.#depth.set({ state }, count);
      this.#age.set({ state }, ageSeconds);
    }
  }

  /** How long the credentials of all connections are still good; those of others are none any more. */
  expiry(
    connections: readonly {
      readonly name: string;
      readonly expires: readonly { what: string; at: string }[];
    }[],
  ): void {
    this.#expiry.reset();
    for (const { name, expires } of connections)
      for (const { what, at } of expires)
        this.#expiry.set({ connection: name, what }, (Date.parse(at) - Date.now()) / 1_000);
  }

  async text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}

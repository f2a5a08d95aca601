import { setTimeout as delay } from 'node:timers/promises';
import type { SmtpInbox } from '@flowpost/testing';
import { expect } from 'vitest';

/** What the server said about a message. */
interface Accepted {
  readonly subject: string;
  readonly deliveryId: string;
}

interface Answer {
  readonly code?: string;
  readonly inDoubt?: boolean;
  readonly deliveryId?: string;
  readonly deliveries?: readonly { readonly id: string; readonly state: string }[];
  readonly next?: string | null;
}

export interface CrashOutcome {
  readonly accepted: number;
  readonly arrived: number;
  readonly inDoubt: number;
}

/** Puts messages into a server that keeps dying, and then finds out what became of each. */
export class CrashLoad {
  readonly #inbox: SmtpInbox;
  readonly #accepted: Accepted[] = [];
  /** Of which the server said that it had not taken them. */
  readonly #refused: string[] = [];
  /** Where a server may be at the moment, and the key for it. */
  readonly #servers: () => readonly { readonly url: string }[];
  readonly #key: () => string;
  #next = 0;
  #subjects = 0;

  constructor(inbox: SmtpInbox, servers: () => readonly { readonly url: string }[], key: () => string) {
    this.#inbox = inbox;
    this.#servers = servers;
    this.#key = key;
  }

  /** How many were refused so far. */
  get refused(): number {
    return this.#refused.length;
  }

  /** How many were accepted so far. */
  get count(): number {
    return this.#accepted.length;
  }

  async #request(
    path: string,
    init: RequestInit = {},
  ): Promise<{ readonly status: number; readonly body: Answer }> {
    const servers = this.#servers();
    const server = servers[this.#next++ % Math.max(1, servers.length)];
    if (!server) throw new Error('no server');
    const response = await fetch(`${server.url}${path}`, {
      ...init,
      headers: { authorization: `Bearer ${this.#key()}`, 'content-type': 'application/json' },
      signal: AbortSignal.timeout(10_000),
    });
    return { status: response.status, body: (await response.json()) as Answer };
  }

  /** Sends so many messages, each once: what was not answered is not known, and not asked again. */
  async put(messages: number, width = 16): Promise<void> {
    const end = this.#subjects + messages;
    const lane = async (): Promise<void> => {
      while (this.#subjects < end) {
        const subject = `crash ${this.#subjects++}`;
        const settings = {
          connection: '@sink',
          from: 'a@x.org',
          to: 'b@x.org',
          subject,
          text: 'x',
          async: true,
        };
        try {
          const response = await this.#request('/v1/nodes/send-email/runs', {
            method: 'POST',
            body: JSON.stringify({ settings }),
          });
          const { status, body } = response;
          if (status === 202) this.#accepted.push({ subject, deliveryId: body.deliveryId ?? '' });
          else if (body.code === 'STORAGE_UNAVAILABLE' && body.inDoubt === false) this.#refused.push(subject);
        } catch {
          // The server died with it.
          await delay(20);
        }
      }
    };
    await Promise.all(Array.from({ length: width }, lane));
  }

  /** Waits until nothing is under way any more, whatever that takes. */
  async settle(timeoutMs: number): Promise<void> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const open = await this.#request('/v1/deliveries?state=queued,sending,committing&limit=1').then(
        ({ body }) => body,
        () => undefined,
      );
      if (open?.deliveries?.length === 0) return;
      if (Date.now() > until) throw new Error(`still under way: ${JSON.stringify(open?.deliveries?.[0])}`);
      await delay(100);
    }
  }

  /** Every message that was accepted arrived exactly once, or is listed as in doubt; none arrived twice, accepted or not. */
  async judge(): Promise<CrashOutcome> {
    const states = new Map<string, string>();
    let before = '';
    do {
      const { body: page } = await this.#request(`/v1/deliveries?limit=500${before}`);
      for (const { id, state } of page.deliveries ?? []) states.set(id, state);
      before = typeof page.next !== 'string' ? '' : `&before=${page.next}`;
    } while (before !== '');
    const arrivals = new Map<string, number>();
    for (const { subject } of this.#inbox.messages) arrivals.set(subject, (arrivals.get(subject) ?? 0) + 1);
    const twice = [...arrivals].filter(([, count]) => count > 1);
    expect(twice).toEqual([]);
    const lost = this.#accepted.filter(
      ({ subject, deliveryId }) => !arrivals.has(subject) && states.get(deliveryId) !== 'in-doubt',
    );
    expect(lost.map(({ subject, deliveryId }) => `${subject} ${states.get(deliveryId)}`)).toEqual([]);
    const lied = this.#accepted.filter(
      ({ subject, deliveryId }) => states.get(deliveryId) === 'sent' && !arrivals.has(subject),
    );
    expect(lied).toEqual([]);
    expect(this.#refused.filter((subject) => arrivals.has(subject))).toEqual([]);
    const inDoubt = [...states.values()].filter((state) => state === 'in-doubt').length;
    return { accepted: this.#accepted.length, arrived: arrivals.size, inDoubt };
  }
}

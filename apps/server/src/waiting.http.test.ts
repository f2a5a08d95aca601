import { setTimeout as delay } from 'node:timers/promises';
import { FaultServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, it } from 'vitest';
import { put, settings, stateOf } from './testing/deliveries.test-support.ts';
import { startLocal } from './testing/local-server.test-support.ts';

// They wait most of the time, each at a server of its own.
describe.concurrent('nobody keeps others waiting', () => {
  it('a server that says nothing does not stop mail to another one', async ({ expect }) => {
    await using silent = await FaultServer.start({ stage: 'ehlo', fault: 'silence' });
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal({ FLOWPOST_CONCURRENCY: '20', FLOWPOST_GRACE_SECONDS: '1' });
    for (let one = 0; one < 45; one++) await put(local, `smtp://127.0.0.1:${silent.port}`);
    const { body } = await put(local, inbox.url.replace('127.0.0.1', 'localhost'));
    await expect.poll(async () => (await stateOf(local, body.deliveryId)).state).toBe('sent');
  });

  it('a long backlog of one mailbox goes through as fast as it takes it, and what is not sent yet was not tried', async ({
    expect,
  }) => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    const ids: string[] = [];
    const clients = Array.from({ length: 20 }, async () => {
      for (let one = 0; one < 30; one++) ids.push((await put(local, inbox.url)).body.deliveryId);
    });
    await Promise.all(clients);
    await expect.poll(() => inbox.messages.length, { timeout: 30_000 }).toBe(600);
    const last = ids.at(-1) ?? '';
    await expect.poll(async () => (await stateOf(local, last)).state).toBe('sent');
    for (const id of ids.slice(-20)) {
      const { body } = await local.client.get(`/v1/deliveries/${id}`);
      const states = body.events.map(({ state }: { state: string }) => state);
      expect(states).toEqual(['queued', 'sending', 'committing', 'sent']);
    }
  });

  it('a rate limit lets a backlog through, one after another, and tries nothing in vain', async ({
    expect,
  }) => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    const connection = { host: '127.0.0.1', port: inbox.port, limits: { messagesPerMinute: 120 } };
    await local.client.post('/v1/connections', { name: 'limited', connection });
    const ids = await Promise.all(
      Array.from({ length: 20 }, async () => (await put(local, '@limited')).body.deliveryId),
    );
    await expect.poll(() => inbox.messages.length, { timeout: 30_000 }).toBe(20);
    await expect.poll(async () => (await stateOf(local, ids[19])).state).toBe('sent');
    for (const id of ids) expect((await stateOf(local, id)).attempt).toBe(1);
  });

  it('what a server kept waiting leaves no faster than the rate limit allows, over all senders of a mailbox', async ({
    expect,
  }) => {
    const held: (() => void)[] = [];
    let isStalled = true;
    const taken: number[] = [];
    await using server = await RawServer.start((socket) => {
      const serve = (): void =>
        speakSmtp(socket, (command) => {
          if (command === '.') taken.push(performance.now());
          return undefined;
        });
      if (isStalled) held.push(serve);
      else serve();
    });
    await using local = await startLocal();
    const connection = { host: '127.0.0.1', port: server.port, limits: { messagesPerMinute: 120 } };
    await local.client.post('/v1/connections', { name: 'one', connection });
    await local.client.post('/v1/connections', {
      name: 'two',
      connection: { ...connection, ehloName: 'two.example' },
    });
    for (let count = 0; count < 20; count++) await put(local, count % 2 ? '@one' : '@two');
    // Twelve may go at once, and two more each second, whom nobody but the server keeps waiting then.
    await delay(5_000);
    isStalled = false;
    for (const serve of held) serve();
    await expect.poll(() => taken.length, { timeout: 15_000 }).toBe(20);
    // The twelve and one more, and then seven in their turns.
    expect((taken.at(-1) ?? 0) - (taken[0] ?? 0)).toBeGreaterThan(3_000);
  });

  it('what waits for its turn can be cancelled, and heeds that its connection is deleted', async ({
    expect,
  }) => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    // One more may go at once, and another one every five seconds.
    const connection = { host: '127.0.0.1', port: inbox.port, limits: { messagesPerMinute: 12 } };
    const { id } = (await local.client.post('/v1/connections', { name: 'limited', connection })).body;
    const put3 = async () => {
      const ids: string[] = [];
      while (ids.length < 3) ids.push((await put(local, '@limited')).body.deliveryId);
      return ids;
    };
    const [, , waiting = ''] = await put3();
    await expect.poll(async () => (await stateOf(local, waiting)).state).toBe('sending');
    await expect.poll(() => inbox.messages.length).toBe(2);
    const cancelled = await local.client.post(`/v1/deliveries/${waiting}/cancel`, {});
    expect([cancelled.status, cancelled.body.state]).toEqual([200, 'cancelled']);
    const next = (await put(local, '@limited')).body.deliveryId;
    await local.client.call('DELETE', `/v1/connections/${id}`);
    await expect.poll(async () => (await stateOf(local, next)).state, { timeout: 20_000 }).toBe('failed');
    expect((await stateOf(local, next)).error.code).toBe('CONNECTION_NOT_FOUND');
    expect((await stateOf(local, waiting)).state).toBe('cancelled');
    expect(inbox.messages).toHaveLength(2);
  });

  it('who waits for an outcome and is cancelled before his turn hears of it at once, and no session is made', async ({
    expect,
  }) => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    const connection = { host: '127.0.0.1', port: inbox.port, limits: { messagesPerMinute: 2 } };
    await local.client.post('/v1/connections', { name: 'limited', connection });
    const run = () => local.client.post('/v1/nodes/send-email/runs', { settings: settings('@limited') });
    expect((await run()).status).toBe(200);
    const asked = run();
    const waiting = async () =>
      (await local.client.get('/v1/deliveries?state=sending')).body.deliveries[0]?.id;
    await expect.poll(waiting).toBeDefined();
    await local.client.post(`/v1/deliveries/${await waiting()}/cancel`, {});
    // Its turn would come half a minute later, which is longer than a test may take.
    expect((await asked).body).toMatchObject({ code: 'DELIVERY_CANCELLED' });
    expect(inbox.messages).toHaveLength(1);
  });

  it('a server that takes its time is waited for, over a stored connection that nobody changed', async ({
    expect,
  }) => {
    const mailFrom = async () => {
      await delay(2_300);
      return undefined;
    };
    await using inbox = await SmtpInbox.start({ refuse: { mailFrom } });
    await using local = await startLocal();
    const connection = { host: '127.0.0.1', port: inbox.port };
    await local.client.post('/v1/connections', { name: 'slow', connection });
    const { status } = await local.client.post('/v1/nodes/send-email/runs', { settings: settings('@slow') });
    expect([status, inbox.messages.length]).toEqual([200, 1]);
  });

  it('what is cancelled while it waits for a session makes none of its own, and whoever waits hears of it', async ({
    expect,
  }) => {
    const goOn = Promise.withResolvers<void>();
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command !== '.') return undefined;
        void goOn.promise.then(() => socket.write('250 taken\r\n'));
        return null;
      }),
    );
    await using local = await startLocal();
    const connection = { host: '127.0.0.1', port: server.port, limits: { connections: 1 } };
    await local.client.post('/v1/connections', { name: 'slow', connection });
    const first = (await put(local, '@slow')).body.deliveryId;
    await expect.poll(async () => (await stateOf(local, first)).state).toBe('committing');
    const others = await Promise.all([1, 2, 3].map(async () => (await put(local, '@slow')).body.deliveryId));
    const asked = local.client.post('/v1/nodes/send-email/runs', { settings: settings('@slow') });
    const waiting = async () =>
      (await local.client.get('/v1/deliveries?state=sending')).body.deliveries.map(
        ({ id }: { id: string }) => id,
      );
    await expect.poll(async () => (await waiting()).length).toBe(4);
    for (const id of await waiting()) {
      const { status, body } = await local.client.post(`/v1/deliveries/${id}/cancel`, {});
      expect([status, body.state]).toEqual([200, 'cancelled']);
    }
    expect((await asked).body).toMatchObject({ code: 'DELIVERY_CANCELLED' });
    goOn.resolve();
    await expect.poll(async () => (await stateOf(local, first)).state).toBe('sent');
    for (const id of others) expect((await stateOf(local, id)).state).toBe('cancelled');
    expect(server.connections).toBe(1);
  });

  it.for([undefined, '5'])(
    'those who wait for outcomes do not take all turns of a rate limit: %s at once',
    async (most, { expect }) => {
      await using inbox = await SmtpInbox.start();
      await using local = await startLocal({ FLOWPOST_CONCURRENCY: most });
      const connection = { host: '127.0.0.1', port: inbox.port, limits: { messagesPerMinute: 120 } };
      await local.client.post('/v1/connections', { name: 'limited', connection });
      const settings = { connection: '@limited', from: 'a@x.org', to: 'b@x.org', text: 'Hello' };
      let isOver = false;
      const callers = Array.from({ length: 8 }, async () => {
        while (!isOver)
          await local.client.post('/v1/nodes/send-email/runs', { settings }).catch(() => undefined);
      });
      // As many as may go at once have gone.
      await expect.poll(() => inbox.messages.length).toBeGreaterThan(15);
      const { deliveryId } = (await put(local, '@limited')).body;
      await expect.poll(async () => (await stateOf(local, deliveryId)).state).toBe('sent');
      isOver = true;
      await Promise.all(callers);
    },
  );
});

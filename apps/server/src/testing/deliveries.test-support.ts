import type { LocalServer } from './local-server.test-support.ts';

/** Of a plain message that is tried once. */
export const settings = (connection: string, more: object = {}) => ({
  ...{ connection, from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x', retry: { attempts: 1 } },
  ...more,
});
/** Puts one into the outbox. */
export const put = (local: LocalServer, connection: string, more: object = {}) =>
  local.client.post('/v1/nodes/send-email/runs', {
    settings: settings(connection, { async: true, ...more }),
  });
/** A delivery as it is now. */
export const stateOf = async (local: LocalServer, id: string) =>
  (await local.client.get(`/v1/deliveries/${id}`)).body;

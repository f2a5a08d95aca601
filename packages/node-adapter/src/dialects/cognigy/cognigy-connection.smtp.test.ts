import { SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { parseFlowData } from '../../flow/flow-data.ts';
import { createFlowScope } from '../../flow/flow-scope.ts';
import { prepareRun } from '../../prepare-run.ts';
import { runNode } from '../../run-node.ts';
import { cognigyNode } from './cognigy.ts';

const flow = parseFlowData({});
const basic = { type: 'basic', username: 'me@x.org', password: 'pw-S3cret' } as const;
const oauth = { type: 'oauth2', user: 'me@x.org', clientId: 'app', refreshToken: 'r' } as const;
const settingsFor = (port: number | undefined, more: object) => ({
  ...{ emailService: 'other', to: 'b@x.org', subject: 'Hi', content: '<p>Hello</p>', authentication: basic },
  ...{ smtpSettings: { host: '127.0.0.1', port }, ...more },
});

it.each([
  [25, 'auto'],
  [587, 'auto'],
  [2525, 'auto'],
  [465, 'implicit'],
  [undefined, 'implicit'],
])('[COG-13] without a TLS option it is TLS, but for ports that speak STARTTLS (%s)', (port, tls) => {
  const { request } = prepareRun(cognigyNode, settingsFor(port, { authentication: oauth }), { flow });
  expect(request.connection).toMatchObject({ tls });
});

it.each([
  ['smtp.office365.com', 'https://login.microsoftonline.com/common/oauth2/v2.0/token'],
  ['smtp.x.org', 'https://accounts.google.com/o/oauth2/token'],
])('[COG-12] without an access URL the issuer is that of the mail server (%s)', async (host, url) => {
  const asked: string[] = [];
  const fetch = async (one: string | URL | Request) => {
    asked.push(String(one));
    return Response.json({ error: 'invalid_grant' }, { status: 400 });
  };
  await using scope = createFlowScope({ auth: { fetch: fetch as typeof globalThis.fetch } });
  await runNode(cognigyNode, settingsFor(1, { smtpSettings: { host, port: 1 }, authentication: oauth }), {
    flow,
    scope,
  });
  expect(asked).toEqual([url]);
});

it('[COG-32] the key of the place that was not chosen says nothing', async () => {
  await using inbox = await SmtpInbox.start({ users: { 'me@x.org': 'pw-S3cret' } });
  const keys = { storeResult: 'context', inputKey: 'left', contextKey: 'mail' };
  const outcome = await runNode(cognigyNode, settingsFor(inbox.port, keys), { flow });
  expect(outcome.flow).toMatchObject({ input: {}, context: { mail: { status: 'sent' } } });
  expect(outcome.flow.context).not.toHaveProperty('left');
});

import type { Connection, Logger } from '@flowpost/core';
import { connectionForm, connectionOfForm, createFlowScope, type FlowScope } from '@flowpost/node-adapter';
import type { NodeProperties, Runtime, RuntimeNode } from './runtime.ts';

export const connectionType = 'flowpost-connection';

/** Less than Node-RED gives a node to close in, which is 15 seconds. */
const closeDeadlineMs = 10_000;

/** Node-RED keeps these encrypted and apart from flows. */
const credentialNames = connectionForm
  .flatMap(({ fields }) => fields)
  .filter(({ secret }) => secret)
  .map(({ name }) => name);

/** A mail server, and the sessions with it that all nodes share which send over it. */
export interface ConnectionNode extends RuntimeNode {
  readonly scope: FlowScope;
  /** @throws MailError `CONNECTION_INVALID`. */
  connection(): Connection;
}

function readConnection(properties: NodeProperties, credentials: RuntimeNode['credentials']): Connection {
  // A secret that stands among the properties, where everybody can read it, is none.
  const secrets = Object.fromEntries(credentialNames.map((name) => [name, credentials?.[name]]));
  const parsed = connectionOfForm({ ...properties, ...secrets });
  // What stands for something else is no data, and no expressions are looked for in it.
  return Object.defineProperty(parsed, 'toJSON', { value: () => connectionType });
}

const loggerOf = (node: RuntimeNode): Logger => {
  const line = (message: string, fields?: object): string =>
    fields === undefined ? message : `${message} ${JSON.stringify(fields)}`;
  return {
    debug: (message, fields) => node.debug(line(message, fields)),
    // One line for each message would be the stock of a log; its status shows it.
    info: (message, fields) => node.debug(line(message, fields)),
    warn: (message, fields) => node.warn(line(message, fields)),
    error: (message, fields) => node.error(line(message, fields)),
  };
};

export function registerConnection(runtime: Runtime): void {
  function Connection(this: RuntimeNode, properties: NodeProperties): void {
    runtime.nodes.createNode(this, properties);
    const scope = createFlowScope({ closeDeadlineMs, logger: loggerOf(this) });
    // It stays as it was deployed.
    let parsed: Connection | undefined;
    const connection = (): Connection => {
      parsed ??= readConnection(properties, this.credentials);
      return parsed;
    };
    Object.assign(this, { scope, connection });
    this.on('close', (_removed, done) => {
      scope[Symbol.asyncDispose]().then(done, done);
    });
  }
  runtime.nodes.registerType(connectionType, Connection, {
    credentials: Object.fromEntries(credentialNames.map((name) => [name, { type: 'password' }] as const)),
  });
}

/** What of Node-RED's runtime these nodes use (https://nodered.org/docs/creating-nodes/node-js). */
export interface Runtime {
  readonly nodes: {
    createNode(node: RuntimeNode, properties: NodeProperties): void;
    getNode(id: string): unknown;
    registerType(
      type: string,
      create: (this: RuntimeNode, properties: NodeProperties) => void,
      options?: { readonly credentials: Readonly<Record<string, { readonly type: 'text' | 'password' }>> },
    ): void;
  };
  readonly util: {
    evaluateNodeProperty(
      value: string,
      type: string,
      node: RuntimeNode,
      message: FlowMessage,
      callback: (error: unknown, value: unknown) => void,
    ): void;
  };
}

/** The message that goes from node to node. */
export type FlowMessage = Record<string, unknown>;

/** A node as it was deployed: the values of its form. */
export interface NodeProperties extends Readonly<Record<string, unknown>> {
  readonly id: string;
}

export type Send = (message: FlowMessage) => void;
export type Done = (error?: Error) => void;

export interface RuntimeNode {
  readonly id: string;
  readonly credentials?: Readonly<Record<string, string | undefined>>;
  // The number of its parameters decides whether Node-RED waits: each of these takes all it is given.
  on(event: 'input', listener: (message: FlowMessage, send: Send, done: Done) => void): void;
  on(event: 'close', listener: (removed: boolean, done: () => void) => void): void;
  status(status: { readonly fill?: string; readonly shape?: string; readonly text?: string }): void;
  debug(text: string): void;
  log(text: string): void;
  warn(text: string): void;
  error(text: string): void;
}

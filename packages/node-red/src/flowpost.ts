import { registerConnection } from './connection-node.ts';
import type { Runtime } from './runtime.ts';
import { registerSend } from './send-node.ts';

/**
 * The nodes for Node-RED: `flowpost-send`, which sends an e-mail for each message and hands it on with the receipt in
 * `msg.email`, and `flowpost-connection`, the mail server that several of them share with its sessions.
 *
 * Node-RED calls it (https://nodered.org/docs/creating-nodes/node-js).
 */
export default function flowpost(runtime: Runtime): void {
  registerConnection(runtime);
  registerSend(runtime);
}

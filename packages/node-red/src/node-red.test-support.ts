import { type EventEmitter, once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
// @ts-expect-error It brings no types.
import untyped from 'node-red';
import type { FlowMessage } from './runtime.ts';

const ownFolder = fileURLToPath(new URL('..', import.meta.url));

interface Engine {
  init(server: Server, settings: object): void;
  start(): Promise<void>;
  stop(): Promise<void>;
  httpAdmin(request: IncomingMessage, response: ServerResponse): void;
  readonly events: EventEmitter;
  readonly runtime: {
    readonly _: { readonly nodes: { getNode(id: string): { receive(message: FlowMessage): void } } };
  };
}
const nodeRed = untyped as Engine;

/** A node of a flow, as the editor deploys it. */
export type FlowNode = Readonly<Record<string, unknown>> & { readonly id: string };

/** What a node says below itself in the editor. */
export interface NodeStatus {
  readonly id: string;
  readonly status: { readonly text?: string };
}

/** The real Node-RED, which loads the package as it is published and is told what to do over its admin API. */
export class RealNodeRed implements AsyncDisposable {
  readonly #url: string;
  readonly #stop: () => Promise<void>;
  /** What function nodes hand to `global.get('seen')`. */
  readonly #seen: (message: FlowMessage) => void;
  #onSeen: ((message: FlowMessage) => void) | undefined;
  readonly statuses: NodeStatus[] = [];

  private constructor(url: string, stop: () => Promise<void>) {
    this.#url = url;
    this.#stop = stop;
    this.#seen = (message) => this.#onSeen?.(message);
  }

  static async start(): Promise<RealNodeRed> {
    if (!existsSync(join(ownFolder, 'dist', 'flowpost.html'))) throw new Error('run `npm run build` first');
    const userDir = await mkdtemp(join(tmpdir(), 'flowpost-node-red-'));
    await mkdir(join(userDir, 'node_modules', '@flowpost'), { recursive: true });
    await symlink(ownFolder, join(userDir, 'node_modules', '@flowpost', 'node-red'));
    const server = createServer((request: IncomingMessage, response: ServerResponse) =>
      nodeRed.httpAdmin(request, response),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const engine = new RealNodeRed(url, async () => {
      await nodeRed.stop();
      server.close();
      server.closeAllConnections();
      await rm(userDir, { recursive: true });
    });
    nodeRed.init(server, {
      userDir,
      httpAdminRoot: '/',
      credentialSecret: 'of these tests',
      telemetry: { enabled: false, updateNotification: false },
      logging: { console: { level: 'off' } },
      functionGlobalContext: { seen: engine.#seen },
    });
    nodeRed.events.on('node-status', (status: NodeStatus) => engine.statuses.push(status));
    await nodeRed.start();
    return engine;
  }

  async get(path: string): Promise<string> {
    const response = await fetch(`${this.#url}/${path}`, { headers: { accept: 'application/json' } });
    return response.text();
  }

  /** The page with the forms of all nodes, as the editor loads it. */
  async forms(): Promise<string> {
    const response = await fetch(`${this.#url}/nodes`, { headers: { accept: 'text/html' } });
    return response.text();
  }

  async deploy(flow: readonly FlowNode[]): Promise<void> {
    const started = once(nodeRed.events, 'flows:started');
    const response = await fetch(`${this.#url}/flows`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'Node-RED-API-Version': 'v2',
        'Node-RED-Deployment-Type': 'full',
      },
      body: JSON.stringify({ flows: flow }),
    });
    if (!response.ok) throw new Error(`deploying failed with ${response.status}: ${await response.text()}`);
    await started;
  }

  /** Hands messages to a node, as the wire before it would, and waits until so many have been seen. */
  async run(id: string, messages: readonly FlowMessage[], until = messages.length): Promise<FlowMessage[]> {
    const found: FlowMessage[] = [];
    const all = new Promise<void>((resolve) => {
      this.#onSeen = (message) => {
        if (found.push(message) === until) resolve();
      };
    });
    const node = nodeRed.runtime._.nodes.getNode(id);
    for (const message of messages) node.receive(message);
    await all;
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
  }
}

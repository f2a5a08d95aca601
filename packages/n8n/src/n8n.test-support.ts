import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PackageDirectoryLoader } from 'n8n-core';
import {
  createRunExecutionData,
  type ICredentialDataDecryptedObject,
  type ICredentialsHelper,
  type IDataObject,
  type INode,
  type INodeExecutionData,
  type INodeType,
  type IRun,
  type IWorkflowExecuteAdditionalData,
  Workflow,
} from 'n8n-workflow';

const ownFolder = fileURLToPath(new URL('..', import.meta.url));
const ownNode = '@flowpost/n8n-nodes-flowpost.flowpostSendEmail';

/** A node that hands on what a test gives it. */
const giving = (items: () => readonly INodeExecutionData[], inputs: readonly 'main'[] = []): INodeType => ({
  description: {
    ...{ displayName: 'Source', name: 'source', group: ['trigger'], version: 1, description: '' },
    ...{ defaults: { name: 'Source' }, inputs: [...inputs], outputs: ['main'], properties: [] },
  },
  execute: async () => [[...items()]],
});

/** What a test gives a run. */
export interface RunOptions {
  readonly items: readonly INodeExecutionData[];
  readonly credential: ICredentialDataDecryptedObject;
  readonly parameters?: INode['parameters'];
  /** Settings of the node beside its parameters, such as `onError`. */
  readonly node?: Partial<INode>;
  /** The type of the node before ours. */
  readonly source?: string;
  /** What a node in between makes of its items, without saying which is from which. */
  readonly between?: () => readonly INodeExecutionData[];
  /** A second node of ours, after the first. */
  readonly second?: Partial<INode>;
  /** Stops the execution when it is aborted. */
  readonly stop?: AbortSignal;
}

/** What came out of our node, by output, and the run itself. */
interface RunResult {
  readonly outputs: readonly (readonly INodeExecutionData[])[];
  readonly run: IRun;
}

let executions = 0;

/** The real engine of n8n, which loads the package as n8n does. What n8n keeps in its database is in memory. */
export class RealN8n implements AsyncDisposable {
  readonly #core: typeof import('n8n-core');
  readonly loader: PackageDirectoryLoader;
  readonly #folder: string;

  private constructor(core: typeof import('n8n-core'), loader: PackageDirectoryLoader, folder: string) {
    this.#core = core;
    this.loader = loader;
    this.#folder = folder;
  }

  static async start(): Promise<RealN8n> {
    if (!existsSync(join(ownFolder, 'dist', 'package.json'))) throw new Error('run `npm run build` first');
    const folder = await mkdtemp(join(tmpdir(), 'flowpost-n8n-'));
    // Read when it is loaded.
    process.env.N8N_USER_FOLDER = folder;
    process.env.N8N_LOG_LEVEL = 'silent';
    const core = await import('n8n-core');
    const loader = new core.PackageDirectoryLoader(ownFolder);
    await loader.loadAll();
    return new RealN8n(core, loader, folder);
  }

  /** The node as n8n has loaded it. */
  get node(): INodeType {
    return this.loader.getNode('flowpostSendEmail').type as INodeType;
  }

  #additionalData(executionId: string, credential: ICredentialDataDecryptedObject) {
    const credentialsHelper: Partial<ICredentialsHelper> = {
      getDecrypted: async () => credential,
      isCredentialUsableByNode: () => true,
      getParentTypes: () => [],
      getCredentialsProperties: () => [],
    };
    const url = 'http://127.0.0.1/';
    const urls = { restApiUrl: url, instanceBaseUrl: url, formBaseUrl: url, formWaitingBaseUrl: url };
    const webhooks = { formTestBaseUrl: url, webhookBaseUrl: url, webhookWaitingBaseUrl: url };
    const workflowData = { id: 'w', name: 'w', nodes: [], connections: {} };
    const hooks = new this.#core.ExecutionLifecycleHooks('trigger', executionId, workflowData as never);
    return {
      ...{ credentialsHelper, executionId, hooks, currentNodeExecutionIndex: 0, variables: {} },
      ...{ ...urls, ...webhooks, webhookTestBaseUrl: url, logAiEvent: () => undefined },
    } as unknown as IWorkflowExecuteAdditionalData;
  }

  /** Runs a workflow: a node that hands over the items, ours after it, and what the options have between and after them. */
  async run(options: RunOptions): Promise<RunResult> {
    const {
      items,
      credential,
      parameters = {},
      node = {},
      source = 'test.source',
      between,
      second,
      stop,
    } = options;
    const place = { typeVersion: 1, position: [0, 0] as [number, number] };
    const credentials = { flowpostMailServer: { id: '1', name: 'mail' } };
    const own = { ...place, id: 'm', type: ownNode, parameters, credentials };
    const nodes: INode[] = [
      { ...place, id: 's', name: 'Source', type: source, parameters: {} },
      ...(between ? [{ ...place, id: 'b', name: 'Between', type: 'test.between', parameters: {} }] : []),
      { ...own, name: 'Mail', ...node },
      ...(second ? [{ ...own, name: 'Second', ...second }] : []),
    ];
    const known: Readonly<Record<string, INodeType>> = {
      [source]: giving(() => items),
      'test.between': giving(between ?? (() => []), ['main']),
      [ownNode]: this.node,
    };
    const nodeTypes = {
      getByName: (name: string) => known[name] as INodeType,
      getByNameAndVersion: (name: string) => known[name] as INodeType,
      getKnownTypes: (): IDataObject => ({}),
    };
    const wires = nodes.slice(1).map(({ name }, index) => {
      const to = [[{ node: name, type: 'main' as const, index: 0 }]];
      return [nodes[index]?.name ?? '', { main: to }] as const;
    });
    const workflow = new Workflow({
      ...{ id: 'w', nodes, connections: Object.fromEntries(wires), active: false, nodeTypes },
    });
    const additionalData = this.#additionalData(`${++executions}`, credential);
    const engine = new this.#core.WorkflowExecute(additionalData, 'trigger', createRunExecutionData());
    const running = engine.run({ workflow, startNode: nodes[0] as INode });
    stop?.addEventListener('abort', () => running.cancel());
    const run = await running;
    const outputs = run.data.resultData.runData.Mail?.at(-1)?.data?.main ?? [];
    return { outputs: outputs.map((output) => output ?? []), run };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true });
  }
}

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ownFolder = fileURLToPath(new URL('..', import.meta.url));
/** As the platform is documented: a process for each execution, in it a VM, and limits to what is called and how often. */
const program = `
  const vm = require('node:vm');
  const { readFileSync } = require('node:fs');
  const { createRequire } = require('node:module');
  process.once('message', async ({ file, config, input, context, childConfigs, throwing }) => {
    const calls = [];
    const call = (name) => (...args) => {
      const text = JSON.stringify(args);
      if (name !== 'log' && Buffer.byteLength(text) > 62 * 1024) throw new Error('an argument is too large');
      if (name !== 'log' && calls.filter(([one]) => one !== 'log').length >= 10) throw new Error('too many calls');
      calls.push([name, ...JSON.parse(text)]);
      if (throwing.includes(name)) throw new Error('the platform is away');
    };
    const api = Object.fromEntries(['addToInput', 'addToContext', 'setNextNode', 'resetNextNodes', 'stopExecution', 'log'].map((name) => [name, call(name)]));
    const sandbox = vm.createContext({
      ...{ Buffer, process, console, URL, URLSearchParams, TextEncoder, TextDecoder, AbortController, AbortSignal, Event, EventTarget },
      ...{ setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate, queueMicrotask, performance, structuredClone },
      ...{ fetch, Headers, Request, Response, FormData, Blob, ReadableStream, TransformStream, WritableStream, atob, btoa, crypto },
    });
    // As in Node 20.
    vm.runInContext('delete Promise.withResolvers; delete Array.fromAsync; delete URL.parse', sandbox);
    // In a VM it has no symbols for "using", and those of newer ones cannot be taken away.
    vm.runInContext(\`{
      const { Symbol: whole } = globalThis;
      const lacking = (name) => name === 'dispose' || name === 'asyncDispose';
      const given = {};
      globalThis.Symbol = new Proxy((text) => whole(text), {
        get: (_, name) => (lacking(name) ? given[name] : Reflect.get(whole, name)),
        has: (_, name) => (lacking(name) ? name in given : name in whole),
        defineProperty: (_, name, { value }) => Reflect.set(given, name, value),
      });
    }\`, sandbox);
    const module = { exports: {} };
    const wrapped = vm.runInContext('(function (module, exports, require) {' + readFileSync(file, 'utf8') + '\\n})', sandbox, { filename: 'module.js' });
    wrapped(module, module.exports, createRequire(file));
    const { default: extension } = module.exports;
    const node = extension.nodes.find((one) => one.function);
    const inRealm = (value) => vm.runInContext('(' + JSON.stringify(value) + ')', sandbox);
    const outcome = await node
      .function({ cognigy: { api, input: inRealm(input), context: inRealm(context) }, config: inRealm(config), childConfigs: inRealm(childConfigs), nodeId: 'n1' })
      .then(() => ({}), (error) => ({ thrown: error.message }));
    process.send({ calls, ...outcome }, () => process.disconnect());
  });
`;

/** How an execution ended. */
export interface Execution {
  /** What it asked the platform for, in order: the name, and what was handed over. */
  readonly calls: readonly (readonly [string, ...unknown[]])[];
  readonly thrown?: string;
}

export const childConfigs = [
  { id: 'to-sent', type: 'flowpostSent' },
  { id: 'to-failed', type: 'flowpostFailed' },
];

/** Executes the node of the built archive once. */
export async function execute(
  config: object,
  flow: { readonly input?: object; readonly context?: object; readonly throwing?: readonly string[] } = {},
): Promise<Execution> {
  const child = fork('/dev/null', {
    execArgv: ['-e', program],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const kill = setTimeout(() => child.kill('SIGKILL'), 20_000);
  try {
    child.send({
      file: `${ownFolder}dist/extension/build/module.js`,
      config,
      ...{ input: {}, context: {}, throwing: [] },
      ...flow,
      childConfigs,
    });
    return await new Promise((resolve, reject) => {
      let outcome: Execution | undefined;
      child.on('message', (message) => {
        outcome = message as Execution;
      });
      // Only then is nothing left open that would hold the platform up.
      child.once('error', reject).once('exit', () => {
        if (outcome) resolve(outcome);
        else reject(new Error('it was ended, or ended without a result'));
      });
    });
  } finally {
    clearTimeout(kill);
  }
}

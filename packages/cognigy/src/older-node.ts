// Cognigy's machines may run an older Node than the packages are made for (22.12), in a VM that does not have all of its globals. What an
// execution uses of them, and undici as it is loaded, is filled in.
import { File } from 'node:buffer';
import { MessagePort } from 'node:worker_threads';

function withResolvers<Value>(): PromiseWithResolvers<Value> {
  let resolve: PromiseWithResolvers<Value>['resolve'] = () => undefined;
  let reject: PromiseWithResolvers<Value>['reject'] = () => undefined;
  const promise = new Promise<Value>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

Promise.withResolvers ??= withResolvers;
URL.parse ??= (url, base) => (URL.canParse(url, base) ? new URL(url, base) : null);

class NamedError extends Error {
  constructor(message?: string, name = 'Error') {
    super(message);
    this.name = name;
  }
}

const globals = globalThis as { File?: unknown; MessagePort?: unknown; DOMException?: unknown };
globals.File ??= File;
globals.MessagePort ??= MessagePort;
globals.DOMException ??= NamedError;

// In a VM of Node 20 or 22 `using` has no symbols: Node gives them to its main realm only.
for (const name of ['dispose', 'asyncDispose'])
  if (!(name in Symbol)) Object.defineProperty(Symbol, name, { value: Symbol.for(`Symbol.${name}`) });

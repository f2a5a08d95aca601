// Cognigy's machines may run an older Node than the packages are made for (22.12). What of newer ones an execution uses is filled in.

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

import { lookup } from 'node:dns/promises';

/** Finds the addresses of a host name. Injected, so that hosts and tests decide where names lead. */
export type Lookup = (
  host: string,
) => Promise<readonly { readonly address: string; readonly family: number }[]>;

/** As the system does, hosts file included. */
export const systemLookup: Lookup = (host) => lookup(host, { all: true });

import { isIP } from 'node:net';
import { portOf, withoutBrackets } from '@flowpost/core';
import { createGuardedFetch } from '@flowpost/mime-attachments';
import type { ServerConfig } from '../config.ts';
import type { HostAccess } from './host-access.ts';

/**
 * Whether Node may connect to a host itself although there is a proxy. Where an entry is not understood here it may: then the host is
 * guarded, and not reached through the proxy, which is safe.
 *
 * @param noProxy as in NO_PROXY: hosts, domains, addresses or ranges, separated by commas.
 * @see https://nodejs.org/api/http.html#built-in-proxy-support
 */
function mayGoPastProxy(url: URL, noProxy: string): boolean {
  const host = withoutBrackets(url.hostname.toLowerCase());
  const entries = noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean);
  return entries.some((entry) => {
    const name = withoutBrackets(entry.replace(/:\d+$/, '').replace(/^\*?\.?/, ''));
    if (name === '' || name === host || `${host}:${portOf(url)}` === entry) return true;
    if (host.endsWith(`.${name}`)) return true;
    return isIP(host) > 0 && isIP(name) === 0 && /[-/*:]/.test(name);
  });
}

/**
 * A `fetch` for token endpoints and Graph: those of whoever may only send must be public. Through a proxy it is the proxy that
 * connects, which sees to that itself; what goes past it is guarded as where there is none.
 *
 * @param environment NODE_USE_ENV_PROXY, HTTPS_PROXY and NO_PROXY, as Node heeds them.
 */
export function guardedFetch(
  { allowedHosts }: Pick<ServerConfig, 'allowedHosts'>,
  { trusts }: Pick<HostAccess, 'trusts'>,
  environment: NodeJS.ProcessEnv,
): typeof fetch {
  const guarded = createGuardedFetch({ allowedHosts, trusts });
  const { NODE_USE_ENV_PROXY, HTTPS_PROXY, https_proxy, NO_PROXY, no_proxy } = environment;
  if (NODE_USE_ENV_PROXY !== '1' || !(https_proxy ?? HTTPS_PROXY)) return guarded;
  const noProxy = [no_proxy, NO_PROXY].join(',');
  return (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const isProxied = url.protocol === 'https:' && !mayGoPastProxy(url, noProxy);
    return isProxied ? fetch(input, init) : guarded(input, init);
  };
}

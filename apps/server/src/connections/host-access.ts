import { BlockList, isIP } from 'node:net';
import { resolve, sep } from 'node:path';
import { type Connection, EncryptedText, isLoopbackHost, MailError } from '@flowpost/core';

const notPublic = new BlockList();
for (const [network, bits] of [
  ...([
    ['0.0.0.0', 8],
    ['10.0.0.0', 8],
    ['100.64.0.0', 10],
    ['127.0.0.0', 8],
    ['169.254.0.0', 16],
  ] as const),
  ...([
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
    ['224.0.0.0', 3],
  ] as const),
]) {
  notPublic.addSubnet(network, bits, 'ipv4');
}
for (const [network, bits] of [
  ['::', 127],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
] as const) {
  notPublic.addSubnet(network, bits, 'ipv6');
}

function isPublicHost(name: string): boolean {
  const host = name.replace(/^\[(.*)\]$/, '$1');
  const version = isIP(host);
  if (version > 0) return !notPublic.check(host, version === 6 ? 'ipv6' : 'ipv4');
  return !isLoopbackHost(host) && host.includes('.') && !/\.(?:internal|local|localhost|lan)\.?$/i.test(host);
}

/** What connections that come over the API may use of the machine and the network this server is in. */
export class HostAccess {
  readonly #folder: string;
  readonly #allowedHosts: readonly string[];

  constructor({
    filesFolder,
    allowedHosts = [],
  }: { readonly filesFolder: string; readonly allowedHosts?: readonly string[] | undefined }) {
    this.#folder = filesFolder;
    this.#allowedHosts = allowedHosts.map((host) => host.toLowerCase());
  }

  /**
   * Files a connection names must lie in the server's own folder for files.
   *
   * @throws MailError `CONNECTION_INVALID`.
   */
  assertFiles(connection: Connection): void {
    const dkim = connection.kind === 'smtp' ? (connection.dkim ?? []).map((one) => one.privateKeyFile) : [];
    const certificate =
      connection.auth?.kind === 'oauth2-certificate' ? connection.auth.certificateFile : undefined;
    for (const path of [connection.tlsOptions?.caFile, certificate, ...dkim]) {
      if (path === undefined) continue;
      const isInside =
        !(path instanceof EncryptedText) && resolve(this.#folder, path).startsWith(`${this.#folder}${sep}`);
      if (!isInside) {
        throw new MailError(
          'CONNECTION_INVALID',
          'A file of the connection is outside of the folder for files.',
          {
            hint: `Put the file into ${this.#folder} and give its whole path, or give its content instead.`,
          },
        );
      }
    }
  }

  /**
   * Whoever may only send must not have this server call addresses in its own network: tokens come from public https servers,
   * or from those the server's operator allows. Stored connections are made by administrators.
   *
   * @throws MailError `CONNECTION_INVALID`.
   */
  assertInline(connection: Connection): void {
    this.assertFiles(connection);
    const { auth } = connection;
    const endpoint = auth && 'tokenEndpoint' in auth ? auth.tokenEndpoint : undefined;
    for (const url of [endpoint, connection.kind === 'microsoft365' ? connection.graphBaseUrl : undefined]) {
      if (url === undefined) continue;
      const { hostname, protocol } = new URL(url);
      if (this.#allowedHosts.includes(hostname.toLowerCase())) continue;
      if (protocol === 'https:' && isPublicHost(hostname)) continue;
      throw new MailError(
        'CONNECTION_INVALID',
        'The token endpoint or Graph URL is not a public https server.',
        {
          hint: 'Have an administrator store the connection and use it as "@NAME", or allow the host with FLOWPOST_ALLOWED_HOSTS.',
        },
      );
    }
  }
}

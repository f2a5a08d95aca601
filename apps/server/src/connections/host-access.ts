import { realpathSync } from 'node:fs';
import { isIP } from 'node:net';
import { isAbsolute, resolve, sep } from 'node:path';
import { type Connection, EncryptedText, isLoopbackHost, MailError } from '@flowpost/core';
import { isPublicAddress } from '@flowpost/mime-attachments';

/** Where a path leads; of what is not there, as it stands. */
function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}

function isPublicHost(name: string): boolean {
  const host = name.replace(/^\[(.*)\]$/, '$1');
  if (isIP(host) > 0) return isPublicAddress(host);
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
      if (path instanceof EncryptedText || !this.#isInside(path)) {
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

  /** A path from here would be read as one from wherever this process was started. */
  #isInside(path: string): boolean {
    if (!isAbsolute(path)) return false;
    return real(path).startsWith(`${real(this.#folder)}${sep}`);
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

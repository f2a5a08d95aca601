import { tmpdir } from 'node:os';
import type { Lookup } from '@flowpost/core';

/** What URLs may be fetched, and how. Private networks are out of reach unless named here. */
export interface UrlPolicy {
  /**
   * What may be reached although it is not public: host names (`files.example.com`), addresses (`10.1.2.3`) or networks
   * (`10.1.0.0/16`, `fd00::/8`). A name opens every address it leads to. A host with a port
   * (`files.example.com:9000`, `[fd00::1]:9000`), which need not be private, is opened at that port alone. Default none.
   */
  readonly allowedHosts?: readonly string[] | undefined;
  /** Default 80 and 443. */
  readonly allowedPorts?: readonly number[] | undefined;
  /** How often a server may send us elsewhere; every step is checked like the first. Default 5. */
  readonly maxRedirects?: number | undefined;
  /** Time for waiting for the server, all in all, redirects and body included, in milliseconds. Default 60,000. */
  readonly timeoutMs?: number | undefined;
  /** Certificates of the authorities to trust instead of the well-known ones, in PEM. */
  readonly ca?: string | readonly string[] | undefined;
  /** How host names are looked up. Default the system's way. */
  readonly lookup?: Lookup | undefined;
}

/** What attachments may be read. Everything not allowed here is refused. */
export interface AttachmentPolicy {
  /** Folders files may be read from, whole trees. Default: the working directory. */
  readonly fileRoots?: readonly string[];
  /** Where relative paths start. Default: the working directory. */
  readonly baseFolder?: string;
  /** Size limit for one attachment in bytes, before encoding. Default 150 MiB, the most any large provider takes. */
  readonly maxBytes?: number;
  /** The same for all attachments of a message together. Default as much as `maxBytes` allows one. */
  readonly maxTotalBytes?: number | undefined;
  readonly urls?: UrlPolicy;
  /**
   * Where large downloads are kept until they are sent, in files without a name that vanish with the process.
   * Default: the system's folder for temporary files.
   */
  readonly temporaryFolder?: string;
}

export interface ResolvedAttachmentPolicy {
  readonly fileRoots: readonly string[];
  readonly baseFolder: string;
  readonly maxBytes: number;
  readonly maxTotalBytes: number;
  readonly urls: UrlPolicy & {
    readonly allowedPorts: readonly number[];
    readonly maxRedirects: number;
    readonly timeoutMs: number;
  };
  readonly temporaryFolder: string;
}

export function resolveAttachmentPolicy(policy: AttachmentPolicy = {}): ResolvedAttachmentPolicy {
  const { urls = {}, maxBytes = 150 * 1024 * 1024 } = policy;
  return {
    fileRoots: policy.fileRoots ?? [process.cwd()],
    baseFolder: policy.baseFolder ?? process.cwd(),
    maxBytes,
    maxTotalBytes: policy.maxTotalBytes ?? maxBytes,
    urls: {
      ...urls,
      allowedPorts: urls.allowedPorts ?? [80, 443],
      maxRedirects: urls.maxRedirects ?? 5,
      timeoutMs: urls.timeoutMs ?? 60_000,
    },
    temporaryFolder: policy.temporaryFolder ?? tmpdir(),
  };
}

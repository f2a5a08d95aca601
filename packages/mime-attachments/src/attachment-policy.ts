/** What attachments may be read. Everything not allowed here is refused. */
export interface AttachmentPolicy {
  /** Folders files may be read from, whole trees. Default: the working directory. */
  readonly fileRoots?: readonly string[];
  /** Where relative paths start. Default: the working directory. */
  readonly baseFolder?: string;
  /** Size limit for one attachment in bytes, before encoding. Default 150 MiB, the most any large provider takes. */
  readonly maxBytes?: number;
}

export interface ResolvedAttachmentPolicy {
  readonly fileRoots: readonly string[];
  readonly baseFolder: string;
  readonly maxBytes: number;
}

export function resolveAttachmentPolicy(policy: AttachmentPolicy = {}): ResolvedAttachmentPolicy {
  return {
    fileRoots: policy.fileRoots ?? [process.cwd()],
    baseFolder: policy.baseFolder ?? process.cwd(),
    maxBytes: policy.maxBytes ?? 150 * 1024 * 1024,
  };
}

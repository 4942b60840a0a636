/** None of VGG's files is a fifth as long. */
export const MAX_BYTES: number = 2 ** 32;

/** Which version of a file a server gave, as far as it says so. */
export interface Origin {
  readonly etag?: string | undefined;
  readonly lastModified?: string | undefined;
  /** Bytes of the whole file. */
  readonly total?: number | undefined;
}

/** Where a download goes. Nobody sees its bytes before `commit`. */
export interface Sink {
  /** Bytes kept of a download that was cut, all of the version `origin`. */
  readonly kept: number;
  readonly origin: Origin | undefined;
  /** Gives the bytes that were kept, in order. */
  replay(use: (bytes: Uint8Array) => void): Promise<void>;
  /** Empties it, for bytes of this version. */
  begin(origin: Origin): Promise<void>;
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** All bytes are there, and are the right ones. */
  commit(digest: string): Promise<void>;
  /** Keeps what is there for another time, if this kind of sink can. */
  keep(): Promise<void>;
  /** Leaves nothing. */
  discard(): Promise<void>;
}

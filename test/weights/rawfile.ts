/** A safetensors file with whatever header, right or wrong. */
export function rawFile(header: unknown, data: number | Uint8Array = 0): Uint8Array<ArrayBuffer> {
  const text = header instanceof Uint8Array ? header : new TextEncoder().encode(asText(header));
  const body = typeof data === 'number' ? new Uint8Array(data) : data;
  const out = new Uint8Array(8 + text.length + body.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  out.set(body, 8 + text.length);
  return out;
}

function asText(header: unknown): string {
  return typeof header === 'string' ? header : JSON.stringify(header);
}

/** One F32 tensor's record. */
export function f32(shape: number[], begin: number, end: number): object {
  return { dtype: 'F32', shape, data_offsets: [begin, end] };
}

/** A stream that gives the bytes in parts, and tells whether it was cancelled. */
export function streamOf(bytes: Uint8Array, part = 7): ReadableStream<Uint8Array> & { cancelled: boolean } {
  let offset = 0;
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (offset >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(offset, offset + part));
      offset += part;
    },
    cancel() {
      result.cancelled = true;
    },
  });
  const result = Object.assign(stream, { cancelled: false });
  return result;
}

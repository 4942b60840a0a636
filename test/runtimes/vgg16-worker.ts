import { Tensor, VGGNet } from 'vggnet';

/* VGG16 in an edge worker: /load reads the weights from a URL as they come, /forward answers with the logits' bytes. */

interface Environment {
  readonly WEIGHTS: string;
}

let model: VGGNet | undefined;
/** What the library has of WebAssembly's memory. */
const memories: WebAssembly.Memory[] = [];
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(descriptor: WebAssembly.MemoryDescriptor) {
    super(descriptor);
    memories.push(this);
  }
};

const handler = {
  async fetch(request: Request, { WEIGHTS }: Environment): Promise<Response> {
    try {
      if (new URL(request.url).pathname === '/load') {
        model = await VGGNet.load(WEIGHTS);
      } else if (model) {
        const { data } = await model.forward(Tensor.randn([1, 3, 224, 224], { seed: 1 }));
        const bytes = memories.reduce((total, { buffer }) => total + buffer.byteLength, 0);
        return new Response(data.buffer as ArrayBuffer, { headers: { 'wasm-bytes': String(bytes) } });
      }
      return Response.json(model?.device);
    } catch (error) {
      return new Response(error instanceof Error ? error.stack : String(error), { status: 500 });
    }
  },
};

// biome-ignore lint/style/noDefaultExport: edge workers are written so
export default handler;

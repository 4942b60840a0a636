import * as library from 'vggnet';
import { type SmokeOptions, smoke } from './smoke.js';

/* The smoke test in an edge worker: a POST of the options is answered by the report. */

interface Environment {
  /** Gives the fixture's files. */
  readonly FIXTURE: { fetch(url: string): Promise<Response> };
}

const handler = {
  async fetch(request: Request, { FIXTURE }: Environment): Promise<Response> {
    const read = async (name: string): Promise<Uint8Array<ArrayBuffer>> =>
      new Uint8Array(await (await FIXTURE.fetch(`http://fixture/${name}`)).arrayBuffer());
    try {
      return Response.json(await smoke(library, read, (await request.json()) as SmokeOptions));
    } catch (error) {
      return new Response(error instanceof Error ? error.stack : String(error), { status: 500 });
    }
  },
};

// biome-ignore lint/style/noDefaultExport: edge workers are written so
export default handler;

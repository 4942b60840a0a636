import { VGGNet } from 'vggnet';
import glyphs from 'vggnet/models/glyphs.safetensors';
import { createHandler } from 'vggnet/serve';

/** Lives as long as the isolate, and the model with it. */
let handler;

async function loadModel({ WEIGHTS, WEIGHTS_KEY }) {
  if (!WEIGHTS) return VGGNet.load(glyphs);
  const object = await WEIGHTS.get(WEIGHTS_KEY);
  if (!object) throw new Error(`The bucket has no ${WEIGHTS_KEY}`);
  return VGGNet.load(object.body);
}

// biome-ignore lint/style/noDefaultExport: edge workers are written so
export default {
  fetch(request, env, context) {
    handler ??= createHandler(() => loadModel(env), { maxDelay: 0, token: env.TOKEN });
    const response = handler.fetch(request);
    // Requests share forwards: one that others wait for goes on when its own client has gone.
    context.waitUntil(response);
    return response;
  },
};

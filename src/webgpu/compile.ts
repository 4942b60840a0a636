import type { Context } from './context.js';
import type { Dispatch } from './kernel.js';
import { foldBatchNorm } from './ops/batch-norm.js';
import { conv2dWeights } from './ops/conv2d.js';
import type { Parameters } from './parameters.js';
import type { Call, Plan } from './plan.js';
import { dispatchesOf, extraction, type Places } from './steps.js';

/**
 * Compiles the pipelines that a plan needs, side by side, before there is anything to run: while the weights arrive.
 * @throws VGGNetError `GPU_ERROR` that names the layer; `DEVICE_LOST`
 */
export async function compilePipelines(context: Context, plan: Plan, parameters: Parameters): Promise<void> {
  const chains = [...plan.parts.map(({ chain }) => chain), ...(plan.rest ? [plan.rest] : [])];
  await Promise.all(
    chains
      .flatMap(({ calls }) => calls)
      .flatMap((call) => dispatchesFor(call, context, parameters).map(({ pipeline }) => ({ call, pipeline })))
      .map(({ call, pipeline }) => context.pipelines.get(context, pipeline, call.step?.layer.name ?? 'the input')),
  );
}

/** A call's dispatches, with those that prepare its weights. Only their pipelines count, so any buffer stands for all. */
function dispatchesFor(call: Call, context: Context, parameters: Parameters): Dispatch[] {
  const { step, conv, output } = call;
  const view = parameters.any;
  const places: Places = {
    capabilities: context.capabilities,
    parameters,
    view: () => view,
    scratch: () => view,
    folded: () => ({ scale: view, shift: view }),
    convWeights: () => view,
  };
  const dispatches = dispatchesOf(call, places, { mode: 'eval', seed: 0 });
  if (conv && conv.weightBytes > 0) dispatches.push(...conv2dWeights(conv, { packed: view, transformed: view }));
  // Logits and probabilities, which most forwards are asked for, may have to be brought into PyTorch's order.
  if (step?.layer.op === 'linear' || step?.layer.op === 'softmax') dispatches.push(...extraction(output, view, view));
  if (step?.batchNorm) {
    const statistics = { runningMean: view, runningVar: view };
    const vectors = { convBias: view, weight: view, bias: view, scale: view, shift: view };
    dispatches.push(...foldBatchNorm(step.batchNorm.channels, { ...statistics, ...vectors }));
  }
  return dispatches;
}

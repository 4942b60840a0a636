import type { Context } from './context.js';
import type { Dispatch } from './kernel.js';
import { foldBatchNorm } from './ops/batchnorm2d.js';
import { conv2dWeights } from './ops/conv2d.js';
import type { Parameters } from './parameters.js';
import type { KernelCall, Plan } from './plan.js';
import { dispatchesOf, extraction, type KernelBuffers } from './steps.js';

/**
 * Compiles the pipelines of a plan concurrently, while the weights arrive.
 * @throws VGGNetError `GPU_ERROR`, which names the layer; `DEVICE_LOST`
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

/** The dispatches of a call and of preparing its weights. Only their pipelines matter, so one buffer stands for all. */
function dispatchesFor(call: KernelCall, context: Context, parameters: Parameters): Dispatch[] {
  const { step, conv, output } = call;
  const view = parameters.any;
  const buffers: KernelBuffers = {
    capabilities: context.capabilities,
    parameters,
    view: () => view,
    scratch: () => view,
    folded: () => ({ scale: view, shift: view }),
    convWeights: () => view,
  };
  const dispatches = dispatchesOf(call, buffers, { mode: 'eval', seed: 0 });
  if (conv && conv.weightBytes > 0) dispatches.push(...conv2dWeights(conv, { packed: view, transformed: view }));
  // Most forwards return logits or probabilities, which may need a copy into PyTorch's order.
  if (step?.layer.op === 'linear' || step?.layer.op === 'softmax') dispatches.push(...extraction(output, view, view));
  if (step?.batchNorm) {
    const statistics = { runningMean: view, runningVar: view };
    const vectors = { convBias: view, weight: view, bias: view, scale: view, shift: view };
    dispatches.push(...foldBatchNorm(step.batchNorm, { ...statistics, ...vectors }));
  }
  return dispatches;
}

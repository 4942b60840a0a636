/*
 * One operation on several threads. The first thread calls `parallel`; the others run `helper` and compute their part of
 * each operation. A part depends only on the thread's number and the number of threads, and no sum is divided, so any number
 * of threads gives the same result to the bit.
 */
import {
  BatchNorm2dBackwardArgs,
  ChannelSumsArgs,
  batchNorm2dInputGradient,
  channelSums,
} from './batchnorm2d-backward';
import { ConvolutionArgs, conv2d } from './conv2d';
import { Conv2dWeightGradientArgs, FlipConv2dArgs, conv2dWeightGradient, flipConv2d } from './conv2d-backward';
import { Conv2dInt8Args, conv2dInt8 } from './conv2d-int8';
import { conv2dRgb, isRgb } from './conv2d-rgb';
import { ElementwiseBackwardArgs, addGradient, reluInputGradient } from './elementwise-backward';
import { linear } from './linear';
import { LinearBackwardArgs, linearInputGradient, linearWeightGradient } from './linear-backward';
import { LinearArgs } from './linear-common';
import { MaxPool2dArgs, maxPool2d } from './pool';
import { MaxPool2dArgmaxArgs, maxPool2dArgmax, maxPool2dInputGradient } from './pool-backward';
import { ARGUMENTS, DONE, EPOCH, OPERATION, join, waitUntilChanged, wake } from './threads';
import { WinogradArgs, winograd } from './winograd';

export const CONV2D: i32 = 1;
export const WINOGRAD: i32 = 2;
export const MAX_POOL2D: i32 = 3;
export const LINEAR: i32 = 4;
export const CONV2D_INT8: i32 = 5;
export const FLIP_CONV2D: i32 = 16;
export const CONV2D_WEIGHT_GRADIENT: i32 = 17;
export const LINEAR_INPUT_GRADIENT: i32 = 18;
export const LINEAR_WEIGHT_GRADIENT: i32 = 19;
export const MAX_POOL2D_ARGMAX: i32 = 20;
export const MAX_POOL2D_INPUT_GRADIENT: i32 = 21;
export const RELU_INPUT_GRADIENT: i32 = 22;
export const ADD_GRADIENT: i32 = 23;
export const CHANNEL_SUMS: i32 = 24;
export const BATCH_NORM2D_INPUT_GRADIENT: i32 = 25;

/** Runs an operation on this thread and `threads` − 1 helpers. `control` is the control block, zeroed at first. */
export function parallel(operation: i32, args: usize, control: usize, threads: i32): void {
  join(control, threads);
  if (ASC_FEATURE_THREADS) {
    store<i32>(control, operation, OPERATION);
    store<usize>(control, args, ARGUMENTS);
    atomic.store<i32>(control, 0, DONE);
    atomic.add<i32>(control, 1, EPOCH);
    wake(EPOCH);
  }
  dispatch(operation, args, 0, threads);
  if (ASC_FEATURE_THREADS) {
    for (let done = 0; done < threads - 1; done = atomic.load<i32>(control, DONE)) waitUntilChanged(DONE, done);
  }
}

/** The loop of a helper, which ends by a trap when it is told to give up. `thread` is from 1 to `threads` − 1. */
export function helper(control: usize, thread: i32, threads: i32): void {
  join(control, threads);
  if (!ASC_FEATURE_THREADS) return;
  for (let epoch = 0; ; epoch++) {
    waitUntilChanged(EPOCH, epoch);
    dispatch(load<i32>(control, OPERATION), load<usize>(control, ARGUMENTS), thread, threads);
    atomic.add<i32>(control, 1, DONE);
    wake(DONE);
  }
}

function dispatch(operation: i32, args: usize, thread: i32, threads: i32): void {
  switch (operation) {
    case CONV2D:
      if (isRgb(changetype<ConvolutionArgs>(args)))
        return conv2dRgb(changetype<ConvolutionArgs>(args), thread, threads);
      return conv2d(changetype<ConvolutionArgs>(args), thread, threads);
    case WINOGRAD:
      return winograd(changetype<WinogradArgs>(args), thread, threads);
    case MAX_POOL2D:
      return maxPool2d(changetype<MaxPool2dArgs>(args), thread, threads);
    case LINEAR:
      return linear(changetype<LinearArgs>(args), thread, threads);
    default:
      // Defined by the low-precision builds.
      if (isDefined(LOWP) && operation == CONV2D_INT8) {
        return conv2dInt8(changetype<Conv2dInt8Args>(args), thread, threads);
      }
      // Defined by the builds that compute gradients.
      if (isDefined(TRAINING)) return dispatchBackward(operation, args, thread, threads);
      unreachable();
  }
}

function dispatchBackward(operation: i32, args: usize, thread: i32, threads: i32): void {
  switch (operation) {
    case FLIP_CONV2D:
      return flipConv2d(changetype<FlipConv2dArgs>(args), thread, threads);
    case CONV2D_WEIGHT_GRADIENT:
      return conv2dWeightGradient(changetype<Conv2dWeightGradientArgs>(args), thread, threads);
    case LINEAR_INPUT_GRADIENT:
      return linearInputGradient(changetype<LinearBackwardArgs>(args), thread, threads);
    case LINEAR_WEIGHT_GRADIENT:
      return linearWeightGradient(changetype<LinearBackwardArgs>(args), thread, threads);
    case MAX_POOL2D_ARGMAX:
      return maxPool2dArgmax(changetype<MaxPool2dArgmaxArgs>(args), thread, threads);
    case MAX_POOL2D_INPUT_GRADIENT:
      return maxPool2dInputGradient(changetype<MaxPool2dArgmaxArgs>(args), thread, threads);
    case RELU_INPUT_GRADIENT:
      return reluInputGradient(changetype<ElementwiseBackwardArgs>(args), thread, threads);
    case ADD_GRADIENT:
      return addGradient(changetype<ElementwiseBackwardArgs>(args), thread, threads);
    case CHANNEL_SUMS:
      return channelSums(changetype<ChannelSumsArgs>(args), thread, threads);
    case BATCH_NORM2D_INPUT_GRADIENT:
      return batchNorm2dInputGradient(changetype<BatchNorm2dBackwardArgs>(args), thread, threads);
    default:
      unreachable();
  }
}

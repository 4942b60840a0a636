/*
 * One operation on several threads. The first thread calls `parallel`; the others run `helper` and compute their part of
 * each operation. A part depends only on the thread's number and the number of threads, and no sum is divided, so any number
 * of threads gives the same result to the bit.
 */
import { ConvolutionArgs, conv2d } from './conv2d';
import { Conv2dInt8Args, conv2dInt8 } from './conv2d-int8';
import { conv2dRgb, isRgb } from './conv2d-rgb';
import { linear } from './linear';
import { LinearArgs } from './linear-common';
import { MaxPool2dArgs, maxPool2d } from './pool';
import { ARGUMENTS, DONE, EPOCH, OPERATION, join, waitUntilChanged, wake } from './threads';
import { WinogradArgs, winograd } from './winograd';

export const CONV2D: i32 = 1;
export const WINOGRAD: i32 = 2;
export const MAX_POOL2D: i32 = 3;
export const LINEAR: i32 = 4;
export const CONV2D_INT8: i32 = 5;

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
      unreachable();
  }
}

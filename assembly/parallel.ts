/*
 * One operation on several threads. The first thread calls `parallel`; the others sit in `helper` and do their share of
 * each operation. A share depends on the thread's number and the number of threads alone, and no sum is cut into shares,
 * so any number of threads gives the same result to the bit.
 */
import { Conv2dArgs, conv2d } from './conv2d';
import { Conv2dInt8Args, conv2dInt8 } from './conv2d-int8';
import { conv2dRgb, isRgb } from './conv2d-rgb';
import { LinearArgs, linear } from './linear';
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

/** What a helper does until the team is given up, which traps. `thread` is from 1 to `threads` − 1. */
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
      if (isRgb(changetype<Conv2dArgs>(args))) return conv2dRgb(changetype<Conv2dArgs>(args), thread, threads);
      return conv2d(changetype<Conv2dArgs>(args), thread, threads);
    case WINOGRAD:
      return winograd(changetype<WinogradArgs>(args), thread, threads);
    case MAX_POOL2D:
      return maxPool2d(changetype<MaxPool2dArgs>(args), thread, threads);
    case LINEAR:
      return linear(changetype<LinearArgs>(args), thread, threads);
    default:
      // Defined by the builds for weights in fewer bits.
      if (isDefined(LOWP) && operation == CONV2D_INT8) {
        return conv2dInt8(changetype<Conv2dInt8Args>(args), thread, threads);
      }
      unreachable();
  }
}

/** Defined (`asc --use LOWP=1`) in the low-precision builds; see lowp.ts. */
declare const LOWP: i32;

/** Defined (`asc --use TRAINING=1`) in the builds that compute gradients; see training.ts. */
declare const TRAINING: i32;

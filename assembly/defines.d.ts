/** Defined (`asc --use LOWP=1`) in the low-precision builds; see lowp.ts. */
declare const LOWP: i32;

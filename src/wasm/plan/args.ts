/*
 * The argument structs of the kernels, by the classes in assembly/ that declare them: the names of a class's own fields, in
 * its order. A field is one 32-bit word, an integer or an address in bytes unless ':f32' marks it. A test compares these
 * descriptions with the kernels' source.
 */

/** `Epilogue` of assembly/tile.ts */
export const EPILOGUE = 'scale shift relu outChannels';
/** `ConvolutionArgs` of assembly/conv2d.ts, after EPILOGUE */
export const CONVOLUTION = 'input output weights pool images height width inStride outStride scratch';
/** `Conv2dInt8Args` of assembly/conv2d-int8.ts, after CONVOLUTION */
export const CONV2D_INT8 = 'weightScales maxima bytes range:f32';
/** `WinogradArgs` of assembly/winograd.ts, after CONVOLUTION */
export const WINOGRAD = 'direct workspace size block tiles together threadBytes inPoint outPoint';
/** `MaxPool2dArgs` of assembly/pool.ts */
export const MAX_POOL2D = 'input output images height width stride';
/** `LinearArgs` of assembly/linear-common.ts */
export const LINEAR = 'input output weights bias relu batch inFeatures outFeatures scratch kind scales digits';
/** `GemmArgs` of assembly/gemm.ts, after EPILOGUE */
export const GEMM = 'm n k a lda b c ldc scratch';

/** The names in a description. */
type FieldOf<Description extends string> = Description extends `${infer First} ${infer Rest}`
  ? FieldOf<First> | FieldOf<Rest>
  : Description extends `${infer Name}:f32`
    ? Name
    : Description;

/** A value for every field of a struct. */
export type StructValues<Description extends string> = Readonly<Record<FieldOf<Description>, number>>;

/**
 * Writes a struct at `address` of a memory.
 * @param descriptions of its class and those that the class extends, the base class first
 */
export function writeStruct<Description extends string>(
  memory: WebAssembly.Memory,
  address: number,
  descriptions: readonly Description[],
  values: StructValues<Description>,
): void {
  const view = new DataView(memory.buffer);
  for (const field of descriptions.join(' ').split(' ')) {
    const [name = '', type] = field.split(':');
    const value = (values as Readonly<Record<string, number>>)[name] as number;
    if (type) view.setFloat32(address, value, true);
    else view.setInt32(address, value, true);
    address += 4;
  }
}

/** How a layer's weights are stored. Biases and batch norm are float32 in all. */
export type Precision = 'fp32' | 'fp16' | 'int8' | 'int4';

export const PRECISIONS: readonly Precision[] = ['fp32', 'fp16', 'int8', 'int4'];

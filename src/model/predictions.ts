/** A class, and how likely the network holds it. */
export interface Prediction {
  readonly label: string;
  readonly index: number;
  /** From 0 to 1; those of all classes add up to 1. */
  readonly probability: number;
}

/** The `count` highest probabilities, best first; of equal ones, and of NaN, the first come first. */
export function topClasses(probabilities: Float32Array, count: number, labels: readonly string[]): Prediction[] {
  const order = Array.from(probabilities.keys()).sort(
    (a, b) => (probabilities[b] as number) - (probabilities[a] as number) || a - b,
  );
  return order.slice(0, count).map((index) => ({
    label: labels[index] as string,
    index,
    probability: probabilities[index] as number,
  }));
}

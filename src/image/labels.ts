/** The 1000 ImageNet class names in torchvision's order, loaded when first asked for. */
export async function loadImageNetLabels(): Promise<readonly string[]> {
  const { IMAGENET_LABELS } = await import('./imagenet-labels.js');
  return IMAGENET_LABELS;
}

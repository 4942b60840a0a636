#!/usr/bin/env python3
"""Writes gradients.json: what PyTorch's backward gives for small networks, in float64.

    python3 test/golden/make-gradients.py

Networks, weights and inputs are those of make-networks.py. A cotangent is the generator's tensor of the name
'cotangent LAYER'. Of each gradient the file keeps values at scattered positions, and the norm. Dropout has p = 0, since
its masks differ between builds of PyTorch.
"""

import importlib.util
import json
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("make_networks", HERE / "make-networks.py")
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)

SAMPLES = 12
SMALL = {"numClasses": 5, "hiddenFeatures": 12, "poolSize": 2, "dropout": 0}


def case(name, architecture, shape, cotangents, wrt, mode="eval", batch_norm=False, frozen=False, guided=False, **options):
    options = {**SMALL, "inChannels": shape[1], "batchNorm": batch_norm, **options}
    model = networks.fill(networks.ListVGG(architecture, **options)).double()
    model.train(mode == "train")
    for module in model.modules():
        if frozen and isinstance(module, nn.BatchNorm2d):
            module.eval()
        if guided and isinstance(module, nn.ReLU):
            module.register_full_backward_hook(lambda _m, given, _o: (given[0].clamp(min=0),))
    x = networks.generate("input", shape, "input").double().requires_grad_(True)
    kept = {"input": x}
    for layer, module in networks.layer_names(model).items():

        def keep(_m, _i, y, layer=layer):
            # A leaf of its own would end the graph; a view keeps the gradient of what a later layer reads.
            y = y.clone()
            y.retain_grad()
            kept[layer] = y
            return y

        module.register_forward_hook(keep)
    model(x)
    loss = 0
    for layer in cotangents:
        loss = loss + (kept[layer] * networks.generate(f"cotangent {layer}", kept[layer].shape, "input").double()).sum()
    loss.backward()

    def stored(gradient):
        flat = gradient.flatten()
        return {"values": networks.shortest(flat[networks.positions(len(flat), SAMPLES)]), "norm": flat.norm().item()}

    def present(gradient, like):
        return torch.zeros_like(like) if gradient is None else gradient

    return {
        "name": name, "architecture": architecture, "options": options, "shape": shape, "mode": mode,
        **({"frozen": True} if frozen else {}), **({"guided": True} if guided else {}), "cotangents": cotangents,
        "wrt": {layer: stored(present(kept[layer].grad, kept[layer])) for layer in wrt},
        "parameters": {key: stored(present(value.grad, value)) for key, value in model.named_parameters()},
    }  # fmt: skip


def main():
    deep = [4, 6, "M", 8, "M", 8, 7, "M"]
    cases = [
        case("logits", deep, [2, 3, 16, 16], ["fc8"], ["input", "relu1_1", "conv2_1", "pool2", "relu6"]),
        case("odd sizes", deep, [1, 3, 19, 13], ["fc8"], ["input", "relu1_2", "avgpool", "fc7"]),
        case("one channel, pools in a row", [5, "M", "M", 3], [3, 1, 12, 9], ["fc8"], ["input", "pool1"]),
        case("a layer before its ReLU and another", deep, [2, 3, 12, 12], ["conv3_1", "relu1_2"], ["input", "conv1_1"]),
        case("before and after one ReLU", deep, [1, 3, 10, 8], ["conv2_1", "relu2_1", "pool1"], ["input", "conv2_1"]),
        case("batch norm, eval", deep, [2, 3, 16, 16], ["fc8"], ["input", "bn1_1", "conv2_1"], batch_norm=True),
        case("batch norm, train", deep, [3, 3, 16, 16], ["fc8"], ["input", "bn1_1", "conv2_1"], "train", batch_norm=True),
        case("batch norm, train, frozen", deep, [2, 3, 16, 16], ["fc8"], ["input"], "train", batch_norm=True, frozen=True),
        case("guided", deep, [2, 3, 16, 16], ["fc8"], ["input", "relu2_1"], guided=True),
        case("wide", [24, "M", 40, 33], [2, 8, 11, 14], ["fc8", "relu2_1"], ["input", "pool1"], poolSize=3),
    ]  # fmt: skip
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
    (HERE / "gradients.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

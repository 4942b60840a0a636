#!/usr/bin/env python3
"""Makes the expectations in this folder with PyTorch and torchvision, on the CPU.

    python3 test/golden/make-networks.py            # all files; 10 minutes on one core
    python3 test/golden/make-networks.py vgg16_bn   # one of them
    python3 test/golden/make-networks.py small      # small networks: eval, train, NaN and infinities

Weights and inputs come from the generator below, whose other half is test/support/generated.ts, so nothing
large is stored. Of each output a file keeps values at scattered positions, the sum, the L2 norm and, of
logits, the five largest. These are computed in float64 and stored as float32: float32 results depend on the
machine's BLAS and on the order of its sums. The script runs each case in float32 as well, as users do, and
prints how far that is from float64, in units of the tests' tolerance 1e-4 + 1e-4 * |expected|.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn

HERE = Path(__file__).parent
NETWORKS = ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
SIZES = [(224, 224), (96, 128), (150, 200)]
TAPS = ["relu1_1", "pool1", "relu3_1", "pool5", "relu7"]
VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


# The generator: element i of a tensor is a hash of i and of the tensor's name, scaled by its kind.


def uniforms(name, count):
    """`count` multiples of 2^-24 in [0, 1)."""
    seed = 0x811C9DC5  # FNV-1a
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 % 2**32
    x = np.arange(count, dtype=np.uint32)
    x *= np.uint32(0x9E3779B9)
    x += np.uint32(seed)
    x ^= x >> 16  # lowbias32
    x *= np.uint32(0x7FEB352D)
    x ^= x >> 15
    x *= np.uint32(0x846CA68B)
    x ^= x >> 16
    return (x >> 8) * 2.0**-24


def generate(name, shape, kind):
    u = uniforms(name, math.prod(shape))
    if kind == "weight":  # Kaiming: variance 2 / fan_in
        values = (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))
    elif kind == "bias":
        values = (2 * u - 1) * 0.1
    elif kind in ("norm.weight", "norm.running_var"):
        values = 0.5 + u
    elif kind in ("norm.bias", "norm.running_mean"):
        values = (2 * u - 1) * 0.2
    elif kind == "input":  # variance 1
        values = (2 * u - 1) * math.sqrt(3)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def fill(model):
    """Gives every parameter and buffer its generated values, by its name in torchvision."""
    for path, module in model.named_modules():
        norm = "norm." if isinstance(module, nn.BatchNorm2d) else ""
        path = path.replace("conv_layers.", "features.").replace("fcs.", "classifier.")
        own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for key, tensor in own.items():
            if key != "num_batches_tracked":
                tensor.data.copy_(generate(f"{path}.{key}", tensor.shape, norm + key))
    return model


# The networks


def conv_layers(architecture, in_channels, batch_norm):
    layers = []
    for entry in architecture:
        if entry == "M":
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
            continue
        layers.append(nn.Conv2d(in_channels, entry, kernel_size=3, stride=1, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(entry))
        layers.append(nn.ReLU())
        in_channels = entry
    return nn.Sequential(*layers)


def classifier(in_features, hidden, num_classes, dropout):
    return nn.Sequential(
        nn.Linear(in_features, hidden), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    )  # fmt: skip


class ListVGG(nn.Module):
    """A network of any list, built as torchvision builds its own."""

    def __init__(self, architecture, inChannels, numClasses, batchNorm, hiddenFeatures, poolSize, dropout=0.5):
        super().__init__()
        last = [entry for entry in architecture if entry != "M"][-1]
        self.features = conv_layers(architecture, inChannels, batchNorm)
        self.avgpool = nn.AdaptiveAvgPool2d(poolSize)
        self.classifier = classifier(last * poolSize**2, hiddenFeatures, numClasses, dropout)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class LessonVGG(nn.Module):
    """The model of the from-scratch lesson: batch norm, and a plain flatten with no average pool."""

    def __init__(self, in_channels=3, num_classes=1000):
        super().__init__()
        self.conv_layers = conv_layers(VGG16, in_channels, True)
        self.fcs = classifier(512 * 7 * 7, 4096, num_classes, 0.5)

    def forward(self, x):
        x = self.conv_layers(x)
        return self.fcs(x.reshape(x.shape[0], -1))


def layer_names(model):
    """Names as papers write them: conv1_1, bn1_1, relu1_1, pool1, avgpool, fc6, relu6, … fc8."""
    names = {}
    block, index = 1, 0
    for module in model.features if hasattr(model, "features") else model.conv_layers:
        if isinstance(module, nn.MaxPool2d):
            names[f"pool{block}"] = module
            block, index = block + 1, 0
            continue
        index += isinstance(module, nn.Conv2d)
        kind = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu"}[type(module)]
        names[f"{kind}{block}_{index}"] = module
    if hasattr(model, "avgpool"):
        names["avgpool"] = model.avgpool
    fcs = model.classifier if hasattr(model, "classifier") else model.fcs
    return {**names, **dict(zip(["fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"], fcs))}


def run(model, x, outputs):
    """The outputs of the named layers."""
    got = {}
    modules = layer_names(model)
    # A copy, as an in-place ReLU (torchvision's) would change the tensor that a hook has kept.
    hooks = [
        modules[name].register_forward_hook(lambda _m, _i, y, name=name: got.__setitem__(name, y.clone()))
        for name in outputs
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return {name: got[name] for name in outputs}


# What is stored


def shortest(values):
    """Float32 values as the shortest decimals that read back the same; others by their names."""
    special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [special.get(str(v)) or float(str(v)) for v in values.detach().numpy().astype(np.float32).ravel()]


def positions(size, count):
    """All, or `count` scattered by the golden ratio, so that they fall on no pattern of rows or channels."""
    if size <= count:
        return list(range(size))
    return [math.floor(k * 0x9E3779B1 % 2**32 / 2**32 * size) for k in range(count)]


def summary(output, count, top=0):
    images = []
    for image in output.flatten(1):
        wide = image.double()
        entry = {
            "values": shortest(image[positions(len(image), count)]),
            "sum": round(wide.sum().item(), 6),
            "norm": round(wide.norm().item(), 6),
        }
        if top:
            best = image.topk(min(top + 1, len(image)))
            gap = (best.values[:-1] - best.values[1:]).min().item()
            if gap < 1e-3:
                print(f"    the largest logits are {gap:.1e} apart: too near to tell their order")
            entry["top"] = best.indices[:top].tolist()
        images.append(entry)
    return {"shape": list(output.shape), "images": images}


def exact(model, x, outputs):
    """The outputs in float64, after seeing that PyTorch's float32 is within the tests' tolerance of them.

    Most of its distance comes from a BLAS that sums the 25,088 products of fc6 one after another, as Debian's
    reference BLAS does; sixteen partial sums bring it to a third.
    """
    single = run(model, x, outputs)
    double = run(model.double(), x.double(), outputs)
    model.float()
    worst = 0
    for name in outputs:
        ratio = (single[name].double() - double[name]).abs() / (1e-4 + 1e-4 * double[name].abs())
        worst = max(worst, ratio.max().item())
    print(f"    {list(x.shape)}: |logits| up to {double['fc8'].abs().max():.2f}, float32 off by {worst:.3f} tolerances")
    if not worst < 1:
        raise SystemExit("PyTorch's own float32 is too far from its float64 for these tests")
    return double


def eval_case(model, shape, taps, count, tapped, top=0, **extra):
    """Logits of every image, and of the first `tapped` images other layers too."""
    outputs = exact(model, generate("input", shape, "input"), [*taps, "fc8"])
    summaries = {name: summary(outputs[name][:tapped], 16) for name in taps}
    return {**extra, "shape": shape, "outputs": {**summaries, "fc8": summary(outputs["fc8"], count, top)}}


def train_case(model, shape, taps):
    """One forward in train mode (dropout 0), and the running statistics that it leaves."""
    model.double().train()
    outputs = run(model, generate("input", shape, "input").double(), [*taps, "fc8"])
    running = {key: shortest(value) for key, value in model.state_dict().items() if "running" in key}
    return {
        "mode": "train",
        "shape": shape,
        "outputs": {name: summary(output, 24) for name, output in outputs.items()},
        "running": running,
    }


def special_case(model, shape, changes, taps):
    """An input with NaN or infinities. A letter a value says what came out: . finite, n NaN, + and - infinities."""
    x = generate("input", shape, "input")
    for index, value in changes:
        x.view(-1)[index] = float(value)
    outputs = run(model, x, [*taps, "fc8"])

    def letter(v):
        return "n" if math.isnan(v) else "." if math.isfinite(v) else "+" if v > 0 else "-"

    kinds = {name: "".join(map(letter, output.ravel().tolist())) for name, output in outputs.items()}
    return {"shape": shape, "changes": changes, "kinds": kinds, "logits": shortest(outputs["fc8"])}


def store(name, cases):
    """A list of cases, one a line."""
    path = HERE / f"{name}.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]\n")
    print(f"  {path.name}: {path.stat().st_size} bytes")


# The files


def make_network(name):
    print(name)
    model = fill(getattr(torchvision.models, name)(init_weights=False)).eval()
    cases = []
    for size in SIZES:
        taps = TAPS if size == (224, 224) else []
        cases.append({"model": name, **eval_case(model, [3, 3, *size], taps, 64, 1, top=5)})
    if name == "vgg16_bn":
        del model
        lesson = fill(LessonVGG()).eval()
        cases.append({"model": name, **eval_case(lesson, [1, 3, 224, 224], [], 64, 1, top=5, by="lesson")})
        same = cases[0]["outputs"]["fc8"]["images"][0], cases[-1]["outputs"]["fc8"]["images"][0]
        if not np.allclose(*[image["values"] for image in same], rtol=1e-6, atol=1e-6):
            raise SystemExit("the lesson's model differs from torchvision's vgg16_bn")
    store(name, cases)


SMALL = {
    "one-channel": {
        "architecture": [8, "M", 16, "M"],
        "options": {"inChannels": 1, "numClasses": 10, "batchNorm": True, "hiddenFeatures": 32, "poolSize": 2},
        "shape": [2, 1, 37, 41],
        "taps": ["conv1_1", "bn1_1", "relu1_1", "pool1", "pool2", "avgpool", "relu7"],
    },
    "odd-channels": {
        "architecture": [5, 7, "M"],
        "options": {"inChannels": 3, "numClasses": 7, "batchNorm": False, "hiddenFeatures": 13, "poolSize": 3},
        "shape": [3, 3, 9, 11],
        "taps": ["relu1_1", "conv1_2", "pool1", "avgpool", "fc6"],
    },
    "no-pool": {
        "architecture": [4],
        "options": {"inChannels": 2, "numClasses": 3, "batchNorm": True, "hiddenFeatures": 5, "poolSize": 1},
        "shape": [3, 2, 1, 3],
        "taps": ["conv1_1", "bn1_1", "avgpool"],
    },
    "pool-first": {
        "architecture": ["M", 9, "M", "M", 3],
        "options": {"inChannels": 5, "numClasses": 1, "batchNorm": False, "hiddenFeatures": 1, "poolSize": 4},
        "shape": [1, 5, 27, 18],
        "taps": ["pool1", "relu2_1", "pool3", "relu4_1", "avgpool"],
    },
    "glyph-like": {
        "architecture": [16, "M", 32, "M", 64, 64, "M"],
        "options": {"inChannels": 1, "numClasses": 36, "batchNorm": True, "hiddenFeatures": 64, "poolSize": 7},
        "shape": [1, 1, 32, 32],
        "taps": ["pool1", "pool2", "relu3_1", "pool3", "avgpool"],
    },
}
SPECIAL_VALUES = {
    "one NaN": [[70, "NaN"]],
    "one +Infinity": [[70, "Infinity"]],
    "one -Infinity": [[0, "-Infinity"]],
    "NaN and both infinities": [[13, "NaN"], [37, "Infinity"], [99, "-Infinity"]],
    "two infinities side by side": [[27, "Infinity"], [28, "-Infinity"]],
}


def make_small():
    print("small networks")
    cases = []
    for name, small in SMALL.items():
        network = {"name": name, "architecture": small["architecture"], "options": small["options"]}

        def model(dropout=0.5, small=small):
            return fill(ListVGG(small["architecture"], **small["options"], dropout=dropout)).eval()

        cases.append({**network, **eval_case(model(), small["shape"], small["taps"], 24, 3)})
        if small["options"]["batchNorm"]:
            train = train_case(model(dropout=0), small["shape"], small["taps"])
            cases.append({**network, "options": {**small["options"], "dropout": 0}, **train})
    store("small", cases)

    # Image 0 is changed and image 1 is not: nothing may leak from one to the other.
    architecture, options = [3, "M", 4], {
        "inChannels": 1, "numClasses": 3, "batchNorm": True, "hiddenFeatures": 6, "poolSize": 2,
    }  # fmt: skip
    cases = []
    for batch_norm in (True, False):
        options = {**options, "batchNorm": batch_norm}
        model = fill(ListVGG(architecture, **options)).eval()
        taps = ["conv1_1", "relu1_1", "pool1", "conv2_1", "avgpool", "relu7"]
        cases += [
            {"name": name, "architecture": architecture, "options": options}
            | special_case(model, [2, 1, 11, 13], changes, taps)
            for name, changes in SPECIAL_VALUES.items()
        ]
    store("special", cases)

    tensors = [
        ("features.0.weight", [64, 3, 3, 3], "weight"),
        ("classifier.0.weight", [512, 25088], "weight"),
        ("classifier.6.bias", [1000], "bias"),
        ("features.1.weight", [64], "norm.weight"),
        ("features.1.bias", [64], "norm.bias"),
        ("features.1.running_mean", [64], "norm.running_mean"),
        ("features.1.running_var", [64], "norm.running_var"),
        ("input", [3, 3, 224, 224], "input"),
    ]
    cases = []
    for name, shape, kind in tensors:
        values = generate(name, shape, kind)
        # The sum of the bit patterns holds every value to the last bit.
        bits = int(values.numpy().view(np.uint32).sum(dtype=np.uint64)) % 2**32
        sample = values.view(-1)[positions(values.numel(), 12)]
        cases.append({"name": name, "shape": shape, "kind": kind, "values": shortest(sample), "bits": bits})
    store("generated", cases)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*NETWORKS, "small"]:
        make_small() if wanted == "small" else make_network(wanted)

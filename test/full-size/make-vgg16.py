#!/usr/bin/env python3
"""Makes VGG16 with random weights in every format that is read, for formats.mjs: about 5 GB.

    python3 test/full-size/make-vgg16.py FOLDER

Needs Debian's python3-torch, python3-torchvision, python3-onnx and python3-numpy.
"""

import json
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision

TIMM = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
LESSON = {"classifier": "fcs", "features": "conv_layers"}


def write_safetensors(path, tensors):
    header, end = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [end, end + value.nbytes]}
        end += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value).tobytes())


def renamed(state, names):
    def rename(key):
        for old, new in names.items():
            if key.startswith(old + "."):
                return new + key[len(old) :]
        return key

    return {rename(key): value for key, value in state.items()}


def keras_layout(state):
    convs = [1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]
    indices = [int(key.split(".")[1]) for key in state if key.startswith("features.") and key.endswith(".weight")]
    out, count = {}, {}
    for block, index in zip(convs, indices):
        count[block] = count.get(block, 0) + 1
        name = f"block{block}_conv{count[block]}"
        out[f"{name}/kernel:0"] = state[f"features.{index}.weight"].transpose(2, 3, 1, 0)
        out[f"{name}/bias:0"] = state[f"features.{index}.bias"]
    for index, name in [(0, "fc1"), (3, "fc2"), (6, "predictions")]:
        weight = state[f"classifier.{index}.weight"]
        if index == 0:
            weight = weight.reshape(4096, 512, 7, 7).transpose(0, 2, 3, 1).reshape(4096, -1)
        out[f"{name}/kernel:0"] = weight.T
        out[f"{name}/bias:0"] = state[f"classifier.{index}.bias"]
    return {key: np.ascontiguousarray(value) for key, value in out.items()}


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = torchvision.models.vgg16(weights=None).eval()
    torch.save(model.state_dict(), out / "vgg16.pth")
    torch.save(model.state_dict(), out / "vgg16-legacy.pth", _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, torch.zeros(1, 3, 224, 224), out / "vgg16.onnx")
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    write_safetensors(out / "vgg16.safetensors", state)
    timm = renamed(state, TIMM)
    timm["pre_logits.fc1.weight"] = timm["pre_logits.fc1.weight"].reshape(4096, 512, 7, 7)
    timm["pre_logits.fc2.weight"] = timm["pre_logits.fc2.weight"].reshape(4096, 4096, 1, 1)
    write_safetensors(out / "vgg16-timm.safetensors", timm)
    write_safetensors(out / "vgg16-lesson.safetensors", renamed(state, LESSON))
    np.savez(out / "vgg16.npz", **state)
    np.savez(out / "vgg16-keras.npz", **keras_layout(state))


main()

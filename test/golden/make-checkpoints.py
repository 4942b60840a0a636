#!/usr/bin/env python3
"""Makes checkpoints/: one small network in the formats that are read, as PyTorch, ONNX and NumPy write them.

    python3 test/golden/make-checkpoints.py

Needs Debian's python3-torch, python3-torchvision, python3-onnx and python3-numpy.
"""

import collections
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).parent / "checkpoints"
LIST = [4, "M", 8, 8, "M"]
HIDDEN, CLASSES, POOL, SIDE = 16, 5, 2, 8


def make_network(batch_norm, adaptive=True):
    torch.manual_seed(3)
    layers = torchvision.models.vgg.make_layers(LIST, batch_norm=batch_norm)
    model = torchvision.models.VGG(layers, num_classes=CLASSES, init_weights=False)
    model.avgpool = torch.nn.AdaptiveAvgPool2d((POOL, POOL)) if adaptive else torch.nn.Identity()
    model.classifier[0] = torch.nn.Linear(LIST[-2] * POOL * POOL, HIDDEN)
    model.classifier[3] = torch.nn.Linear(HIDDEN, HIDDEN)
    model.classifier[6] = torch.nn.Linear(HIDDEN, CLASSES)
    if batch_norm:
        model.train()(torch.randn(16, 3, SIDE, SIDE))
        for layer in model.features:
            if isinstance(layer, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
                torch.nn.init.uniform_(layer.bias, -0.5, 0.5)
    return model.eval()


def save_both(value, name):
    torch.save(value, OUT / f"{name}.pth")
    torch.save(value, OUT / f"{name}-legacy.pth", _use_new_zipfile_serialization=False)


def make_checkpoints(plain, normed):
    save_both(plain.state_dict(), "plain")
    save_both(normed.state_dict(), "bn")
    parallel = torch.nn.DataParallel(plain)
    optimizer = torch.optim.Adam(plain.classifier[6].parameters())
    plain(torch.zeros(1, 3, SIDE, SIDE)).sum().backward()
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    optimizer.step()
    plain.load_state_dict(before)
    checkpoint = {
        "epoch": 3,
        "arch": "vgg",
        "best_acc1": torch.tensor(71.5),
        "lr": 1e-3,
        "state_dict": parallel.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(checkpoint, OUT / "nested.pth")
    torch.save({"model": parallel.state_dict()}, OUT / "protocol-4.pth", pickle_protocol=4)


def make_views():
    """Tensors that share storages, are not contiguous, or of other dtypes, and the values that they have."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    tagged = torch.nn.Parameter(torch.tensor([5.0, 6.0]))
    tagged.note = "an attribute"
    tensors = collections.OrderedDict(
        whole=base,
        transposed=base.t(),
        row=base[2],
        column=base[:, 3],
        every_other=base[::2, 1::2],
        permuted=base.reshape(2, 2, 6).permute(2, 0, 1),
        tied=base.view(-1),
        one=base[3, 4],
        empty=base[:0],
        expanded=base[1, :1].expand(3, 2),
        half=(base / 3).half()[:, :3],
        bfloat=(base / 3).bfloat16().t(),
        double=(base.double() / 3)[1:],
        double_t=(base.double() / 3).t(),
        parameter=torch.nn.Parameter(base + 1),
        tagged=tagged,
        count=torch.tensor(7),
        bits=torch.tensor([True, False]),
    )
    save_both(tensors, "views")
    expected = {
        name: {"shape": list(tensor.shape), "values": tensor.detach().double().float().reshape(-1).tolist()}
        for name, tensor in tensors.items()
        if tensor.dtype.is_floating_point
    }
    (OUT / "views.json").write_text(json.dumps(expected) + "\n")


def export(model, name, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, torch.zeros(1, 3, SIDE, SIDE), OUT / name, input_names=["image"], **options)


def make_onnx(plain, normed):
    export(plain, "plain.onnx")
    keep = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    export(normed, "bn.onnx", **keep)
    export(normed, "folded.onnx")
    reshaped = torch.nn.Sequential(plain.features, View(), plain.classifier, torch.nn.Softmax(1)).eval()
    export(reshaped, "reshape.onnx", opset_version=11, dynamic_axes={"image": {0: "n"}})
    onnx.save(make_matmul(plain), OUT / "matmul.onnx")


class View(torch.nn.Module):
    def forward(self, x):
        return x.view(x.size(0), -1)


def make_matmul(plain):
    """Names that say nothing, (in, out) weights as MatMul and Gemm take them, auto_pad, and values as lists."""
    state = {key: value.numpy() for key, value in plain.state_dict().items()}
    nodes, tensors, value = [], [], "x"

    def add(op, inputs, **attributes):
        nonlocal value
        value = f"v{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [value], **attributes))

    def weight(array, raw):
        name = f"w{len(tensors)}"
        if raw:
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        else:
            tensors.append(helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.reshape(-1).tolist()))
        return name

    for i in [0, 3, 5]:
        w, b = weight(state[f"features.{i}.weight"], i == 3), weight(state[f"features.{i}.bias"], i != 3)
        add("Conv", [value, w, b], auto_pad="SAME_UPPER")
        add("Relu", [value])
        if i != 3:
            add("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
    tensors.append(numpy_helper.from_array(np.array([-1, 32], np.int64), "shape"))
    add("Reshape", [value, "shape"])
    for i in [0, 3, 6]:
        w, b = weight(state[f"classifier.{i}.weight"].T, i == 0), weight(state[f"classifier.{i}.bias"], i == 0)
        if i == 3:
            add("Gemm", [value, w, b], transB=0)
        else:
            add("MatMul", [value, w])
            add("Add", [value, b])
        if i < 6:
            add("Relu", [value])
            add("Dropout", [value])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, CLASSES])
    # Initialisers among the inputs, as before version 4, and before the nodes in no order of theirs.
    inputs = [x] + [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "g", inputs, [y], tensors[::-1])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def make_npz(plain):
    state = {key: value.numpy() for key, value in plain.state_dict().items()}
    np.savez(OUT / "plain.npz", **state)
    fortran = {f"module.{key}": np.asfortranarray(value) for key, value in state.items()}
    np.savez_compressed(OUT / "fortran.npz", **fortran)
    keras = {}
    for index, name in [(0, "block1_conv1"), (3, "block2_conv1"), (5, "block2_conv2")]:
        keras[f"vgg/{name}/kernel:0"] = state[f"features.{index}.weight"].transpose(2, 3, 1, 0)
        keras[f"vgg/{name}/bias:0"] = state[f"features.{index}.bias"]
    grid = state["classifier.0.weight"].reshape(HIDDEN, LIST[-2], POOL, POOL)
    keras["vgg/fc1/kernel:0"] = grid.transpose(2, 3, 1, 0).reshape(-1, HIDDEN)
    for index, name in [(3, "fc2"), (6, "predictions")]:
        keras[f"vgg/{name}/kernel:0"] = state[f"classifier.{index}.weight"].T
    for index, name in [(0, "fc1"), (3, "fc2"), (6, "predictions")]:
        keras[f"vgg/{name}/bias:0"] = state[f"classifier.{index}.bias"]
    np.savez(OUT / "keras.npz", **{key: np.ascontiguousarray(value) for key, value in keras.items()})


def main():
    OUT.mkdir(exist_ok=True)
    plain, normed = make_network(False), make_network(True)
    make_checkpoints(plain, normed)
    make_views()
    make_onnx(plain, normed)
    make_npz(plain)
    x = torch.linspace(-1, 1, 3 * SIDE * SIDE).reshape(1, 3, SIDE, SIDE)
    logits = {name: model(x)[0].tolist() for name, model in [("plain", plain), ("bn", normed)]}
    (OUT / "logits.json").write_text(json.dumps(logits) + "\n")


main()

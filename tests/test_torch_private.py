"""Private names of PyTorch: one file has them all, and does without each of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import innverse
from innverse import flows, torch_private
from innverse.accelerate import handwritten

SOURCES = sorted(Path(innverse.__file__).parent.rglob("*.py"))
NAMES = [
    name
    for name, value in vars(torch_private).items()
    if name.startswith("_") and name[1:].isupper() and (value is None or callable(value))
]


def chain_of(node: ast.AST) -> str:
    """``torch.ops.aten.x`` of a tree of attributes, or an empty text."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def private(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            root, *names = chain_of(node).split(".")
            if root in ("torch", "nn", "F", "forward_ad") and names:
                hidden = any(n.startswith("_") and not n.startswith("__") for n in names)
                if hidden or names[0] == "ops":
                    found.add(".".join([root, *names]))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            if any(n.startswith("_") for n in names):
                found.add(node.module)
    return found


def test_private_names_are_in_one_file():
    used = {path.name: private(path) for path in SOURCES if path.name != "torch_private.py"}
    assert {name: found for name, found in used.items() if found} == {}


def test_a_missing_name_is_found_missing():
    assert torch_private.find("_C._are_functorch_transforms_active") is not None
    assert torch_private.find("_C._no_such_function") is None
    assert torch_private.find("ops.mkldnn._no_such_operator.out") is None


@pytest.fixture(params=["here", *NAMES, "all"])
def missing(request, monkeypatch):
    """PyTorch as it is, without one of the names, and without all of them."""
    for name in NAMES if request.param == "all" else [request.param] * (request.param in NAMES):
        monkeypatch.setattr(torch_private, name, None)
    return request.param


def test_the_gradient_of_softmax(missing):
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    soft = x.softmax(1)
    g = torch.randn_like(soft)
    (expected,) = torch.autograd.grad(soft, x, g)
    with torch.no_grad():
        found = torch_private.softmax_backward(g, soft, 1)
    torch.testing.assert_close(found, expected)


def test_lists(missing):
    tensors = [torch.ones(3), torch.full((2, 2), 2.0)]
    assert [round(float(n), 4) for n in torch_private.norms(tensors)] == [1.7321, 4.0]
    torch_private.scale_(tensors, 3.0)
    torch_private.move_towards_(tensors, [torch.zeros(3), torch.zeros(2, 2)], 0.5)
    assert tensors[0].tolist() == [1.5] * 3 and tensors[1].tolist() == [[3.0] * 2] * 2


def test_transforms_and_derivatives_of_a_flow(missing, monkeypatch):
    """Where nobody can tell what autograd is about to do, the formula itself is taken."""
    if missing == "all":
        monkeypatch.delattr(torch.autograd.forward_ad, "_current_level")
    flow = flows.build("realnvp", (4,), layers=2, width=8)
    exact = flows.build("realnvp", (4,), layers=2, width=8).double()
    exact.load_state_dict(flow.state_dict())
    x = torch.randn(3, 4)
    assert handwritten.applies() == (missing not in ("_TRANSFORMS_ACTIVE", "all"))
    found = torch.func.vmap(torch.func.grad(lambda x: flow.log_prob(x[None])[0]))(x)
    leaf = x.double().requires_grad_()
    (expected,) = torch.autograd.grad(exact.log_prob(leaf).sum(), leaf)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(flow.log_prob(leaf).sum(), leaf)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)

"""Reading only the counts that are not zero changes the time that encoding takes, and nothing else."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from torch import Tensor, nn
from torch.nn.functional import embedding_bag
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vmmscvi import SCVI_VMM
from vmmscvi.module._sparse_counts import SparseCounts, counts_of, nonzero
from vmmscvi.module._sparse_input import SparseInput
from vmmscvi.module._sparse_linear import SparseLinear

Make = Callable[..., SCVI_VMM]

SETUPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "batches": ({"batch_key": "batch"}, {}),
    "no batches": ({}, {}),
    "categorical": ({"batch_key": "batch", "categorical_covariate_keys": ["donor", "phase"]}, {}),
    "continuous": ({"batch_key": "batch", "continuous_covariate_keys": ["stress"]}, {}),
    "embedded batches": ({"batch_key": "batch"}, {"batch_representation": "embedding"}),
    "blind encoder": ({"batch_key": "batch"}, {"encode_covariates": False}),
    "counts as they are": ({"batch_key": "batch"}, {"log_variational": False}),
    "two layers": ({"batch_key": "batch"}, {"n_layers": 2, "deeply_inject_covariates": True}),
    "layer norm": ({"batch_key": "batch"}, {"use_batch_norm": "none", "use_layer_norm": "both"}),
}


@pytest.fixture
def make_model(make_model: Make, sparse_counts: AnnData) -> Make:
    """Models of sparse counts, unless others are given."""

    def make(adata: AnnData | None = None, **kwargs: Any) -> SCVI_VMM:
        return make_model(sparse_counts.copy() if adata is None else adata, **kwargs)

    return make


def matrix(*shape: int, density: float = 0.2) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.poisson(3.0, shape) * (rng.random(shape) < density)).float()


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (0, 7), (5, 0)])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_sparse_counts_are_the_matrix(shape: tuple[int, int], density: float) -> None:
    x = matrix(*shape, density=density)
    counts = SparseCounts.of(x)
    rebuilt = torch.zeros(shape)
    for cell, (start, end) in enumerate(zip(counts.cell_start, counts.cell_start[1:], strict=False)):
        rebuilt[cell, counts.gene[start:end]] = counts.value[start:end]
    assert torch.equal(rebuilt, x)
    some = counts.cells(1, shape[0]) if shape[0] > 1 else counts
    assert some.shape[1] == shape[1] and torch.equal(
        some.value, x[-some.shape[0] :][x[-some.shape[0] :] != 0]
    )
    assert counts.density == pytest.approx(float((x != 0).sum()) / max(x.numel(), 1))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_nonzero_agrees_with_torch(n_threads: int, use_threads: Callable[[int], None]) -> None:
    use_threads(n_threads)
    values = torch.tensor([0.0, 1.0, -2.0, torch.nan, -0.0, torch.inf])
    assert torch.equal(nonzero(values), values.nonzero().squeeze(1))


def test_counts_are_found_once_until_the_matrix_changes() -> None:
    x = matrix(5, 7)
    first = counts_of(x)
    assert counts_of(x) is first
    x[0, 0] += 1
    changed = counts_of(x)
    assert changed is not first
    assert changed.value.sum() == x.sum()
    x.numpy()[0, 0] += 1  # without a new version of the tensor
    assert counts_of(x, x.sum(1)).value.sum() == x.sum()
    assert counts_of(x.clone()) is not counts_of(x)
    with torch.inference_mode():
        y = matrix(5, 7)
        assert counts_of(y) is counts_of(y)
        y[0, 0] += 1  # inference tensors have no version
        assert counts_of(y).value.sum() == y.sum()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_a_minibatch_have_their_own_counts(duplicate: Callable[[Any], Any]) -> None:
    x = matrix(5, 7)
    counts_of(x)
    copied = duplicate(x)
    copied[0] = 0
    assert counts_of(copied).value.sum() == copied.sum() < x.sum()
    assert counts_of(x).value.sum() == x.sum()


@pytest.mark.parametrize("is_log1p", [False, True])
@pytest.mark.parametrize("n_others", [0, 2])
def test_a_sparse_input_is_its_dense_matrix_whatever_is_done_with_it(is_log1p: bool, n_others: int) -> None:
    x, other = matrix(5, 7), torch.rand(5, 1)
    dense, sparse = x, SparseInput(x, counts_of(x), x.sum(1))
    if is_log1p:
        dense, sparse = torch.log1p(dense), torch.log1p(sparse)
    for _ in range(n_others):
        dense, sparse = torch.cat((dense, other), dim=-1), torch.cat([sparse, other], dim=1)
    assert isinstance(sparse, SparseInput)
    assert sparse.shape == dense.shape and sparse.dim() == 2 and sparse.device == dense.device
    assert torch.equal(sparse.dense(), dense)
    for function in (
        lambda y: y.sum(1),
        lambda y: y.sum(0),
        lambda y: torch.exp(y),
        lambda y: (y * 2.0, 2.0 * y, y[1:3], -y, 1.0 - y)[n_others],
        lambda y: (y[1:3], -y, 1.0 - y)[n_others],
        lambda y: torch.log1p(torch.log1p(y)),
        lambda y: torch.cat((y, y), dim=0),
        lambda y: torch.cat((other, y), dim=1),
        lambda y: nn.functional.linear(y, torch.ones(2, 7 + n_others)),
    ):
        assert torch.equal(torch.as_tensor(function(sparse)), torch.as_tensor(function(dense)))


@pytest.mark.parametrize("n_others", [0, 1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sparse_layer_is_the_dense_layer(n_others: int, dtype: torch.dtype) -> None:
    x, others = matrix(6, 9).to(dtype), torch.randn(6, n_others, dtype=dtype)
    dense = nn.Linear(9 + n_others, 4, dtype=dtype)
    sparse, weight = SparseLinear.sharing(dense), torch.randn(6, 4, dtype=dtype)
    others.requires_grad_(n_others > 0)
    leaves = [dense.weight, dense.bias, *([others] if n_others else [])]

    expected = dense(torch.cat((x, others), dim=-1))
    found = sparse(SparseInput(x, SparseCounts.of(x), others=(others,)))
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((weight * y).sum(), leaves) for y in (found, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(sparse(torch.cat((x, others), dim=-1)), expected)  # dense again


def lies_gene_by_gene(layer: nn.Linear) -> bool:
    return layer.weight.T.is_contiguous()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("reads_sparsely", [True, False])
def test_the_order_of_the_weight_in_memory_changes_no_step(fused: bool, reads_sparsely: bool) -> None:
    x = matrix(6, 9)
    plain, layer = nn.Linear(9, 4), SparseLinear.sharing(nn.Linear(9, 4))
    layer.load_state_dict(plain.state_dict())
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.1, fused=fused) for m in (plain, layer)]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        plain(x).square().sum().backward()
        layer(SparseInput(x, SparseCounts.of(x)) if reads_sparsely else x).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    assert lies_gene_by_gene(layer) and lies_gene_by_gene(copy.deepcopy(layer))
    torch.testing.assert_close(layer.weight, plain.weight)
    torch.testing.assert_close(layer.bias, plain.bias)


def test_sharing_keeps_parameters_their_names_and_the_random_state() -> None:
    dense = nn.Linear(5, 3)
    state = torch.get_rng_state()
    sparse = SparseLinear.sharing(dense)
    assert torch.equal(torch.get_rng_state(), state)
    assert sparse.weight is dense.weight and sparse.bias is dense.bias
    assert sparse.state_dict().keys() == dense.state_dict().keys()


@pytest.mark.parametrize(("setup", "kwargs"), SETUPS.values(), ids=SETUPS.keys())
def test_loss_and_gradients_are_those_of_the_dense_encoder(
    make_model: Make,
    minibatch: Any,
    readings: Any,
    setup: dict[str, Any],
    kwargs: dict[str, Any],
) -> None:
    model = make_model(setup=setup, prior="standard_normal", **kwargs)
    module, tensors = model.module.train(), minibatch(model)

    def evaluate(sparsely: bool) -> tuple[Tensor, list[Tensor | None]]:
        module.sparse_encoder = sparsely
        torch.manual_seed(0)
        loss = module(tensors)[2].loss
        parameters = [p for p in module.parameters() if p.requires_grad]
        return loss.detach(), list(torch.autograd.grad(loss, parameters, allow_unused=True))

    (loss, gradients), (expected, expected_gradients) = evaluate(True), evaluate(False)
    assert readings.n_found == 1
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0.0)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_empirical_bayes_is_that_of_the_dense_encoder(
    make_model: Make, minibatch: Any, fill_pseudo_inputs: Any, readings: Any, prior: str
) -> None:
    model = make_model(prior=prior)
    model = fill_pseudo_inputs(model) if prior == "vmm" else model
    module, tensors, losses = model.module, minibatch(model), []
    for module.sparse_encoder in (True, False):
        torch.manual_seed(0)
        losses.append(module.empirical_bayes_loss(tensors)[0].loss)
    assert readings.n_found == 1
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0.0)


def test_training_and_latent_space_follow_the_dense_encoder(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    models = [make_model(prior="standard_normal", sparse_encoder=s, dropout_rate=0.0) for s in (True, False)]
    models[1].module.load_state_dict(models[0].module.state_dict())
    for model in models:
        torch.manual_seed(1)
        model.train(**short_training)
    for key in ("train_loss", "elbo_validation"):
        sparse, dense = (m.history[key].to_numpy(dtype=float) for m in models)
        np.testing.assert_allclose(sparse, dense, rtol=1e-4)
    sparse, dense = (m.get_latent_representation() for m in models)
    np.testing.assert_allclose(sparse, dense, atol=1e-2)


def test_hooks_that_freeze_weights_for_a_query_still_do(
    make_model: Make, minibatch: Any, readings: Any
) -> None:
    model = make_model(prior="standard_normal")
    module = model.module
    module.z_encoder.encoder.set_online_update_hooks()
    module(minibatch(model))[2].loss.backward()
    gradient = module.z_encoder.encoder.fc_layers[0][0].weight.grad
    assert readings.n_found == 1
    assert not gradient[:, :-2].any() and gradient[:, -2:].any()


@pytest.mark.parametrize(
    ("n_cells", "x", "kwargs", "is_sparse"),
    [
        (250, matrix(300, 100, density=0.1), {}, True),
        (250, matrix(300, 100, density=0.6), {}, False),
        (250, matrix(300, 100, density=0.1), {"sparse_encoder": False}, False),
        (250, matrix(300, 100, density=0.1), {"use_observed_lib_size": False}, False),
    ],
    ids=["sparse", "dense counts", "switched off", "latent library"],
)
def test_sparse_products_are_taken_where_they_are_faster(
    make_model: Make,
    minibatch: Any,
    readings: Any,
    adata: Any,
    n_cells: int,
    x: Tensor,
    kwargs: dict[str, Any],
    is_sparse: bool,
) -> None:
    adata.X = x.numpy() + np.eye(300, 100, dtype=np.float32)  # no cell is empty
    model = make_model(adata, prior="standard_normal", **kwargs)
    module, tensors = model.module.eval(), minibatch(model, n_cells)
    module.inference(**module._get_inference_input(tensors))
    assert readings.n_found == is_sparse
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module.inference(**module._get_inference_input(tensors))
    assert readings.n_found == is_sparse


class Searches(TorchFunctionMode):
    """Counts the searches for non-zero entries of a whole minibatch."""

    def __init__(self, n_entries: int) -> None:
        super().__init__()
        self.n_entries, self.n_found = n_entries, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.nonzero and args[0].numel() == self.n_entries:
            self.n_found += 1
        return func(*args, **(kwargs or {}))


def test_counts_are_looked_for_once_in_a_step(
    make_model: Make, minibatch: Any, fill_pseudo_inputs: Any, use_threads: Callable[[int], None]
) -> None:
    use_threads(3)  # with fewer, NumPy looks for them
    model = fill_pseudo_inputs(make_model())
    module, tensors = model.module, minibatch(model)
    with Searches(tensors["X"].numel()) as searches:
        module(tensors)[2].loss.backward()
        module.empirical_bayes_loss(tensors)
    assert searches.n_found == 1


class LargeResults(TorchDispatchMode):
    """Notes operations that make a new matrix as large as a given one."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x, self.made = x, list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_large = isinstance(result, Tensor) and result.numel() >= self.x.numel()
        if is_large and result.untyped_storage().data_ptr() != self.x.untyped_storage().data_ptr():
            self.made.append(str(func))
        return result


@pytest.mark.parametrize(("setup", "kwargs"), SETUPS.values(), ids=SETUPS.keys())
def test_the_dense_matrix_is_never_made(
    make_model: Make, minibatch: Any, readings: Any, setup: dict[str, Any], kwargs: dict[str, Any]
) -> None:
    model = make_model(setup=setup, prior="standard_normal", **kwargs)
    module, tensors = model.module, minibatch(model)
    with LargeResults(tensors["X"]) as large:
        module.inference(**module._get_inference_input(tensors))["qz"].loc.sum().backward()
    assert readings.n_found == 1 and not large.made


def test_a_model_can_be_copied_after_use(make_model: Make, minibatch: Any) -> None:
    model = make_model()
    model.module.eval()(minibatch(model), compute_loss=False)
    copied = copy.deepcopy(model.module)
    assert copied.state_dict().keys() == model.module.state_dict().keys()


class Meeting(TorchFunctionMode):
    """Threads wait for each other before and after a sparse product."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not embedding_bag:
            return func(*args, **(kwargs or {}))
        self.barrier.wait()  # both have said what they read before either reads
        result = func(*args, **(kwargs or {}))
        self.barrier.wait()
        return result


def test_threads_that_share_a_module_get_their_own_cells(make_model: Make, minibatch: Any) -> None:
    model = make_model(prior="standard_normal")
    module = model.module.eval()
    tensors = minibatch(model, 64)
    halves = [
        {name: value[rows].clone() for name, value in tensors.items()} for rows in (slice(32), slice(32, 64))
    ]

    @torch.no_grad()
    def embed(cells: dict[str, Tensor]) -> Tensor:
        return module.inference(**module._get_inference_input(cells))["qz"].loc

    def embed_together(cells: dict[str, Tensor]) -> Tensor:
        with Meeting(together):
            return embed(cells)

    expected = [embed(half) for half in halves]
    together = threading.Barrier(2, timeout=30)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(embed_together, halves))
    assert all(map(torch.equal, found, expected))


def test_a_call_leaves_no_trace_on_the_module(make_model: Make, minibatch: Any) -> None:
    model = make_model(prior="standard_normal")
    before = {name: set(module.__dict__) for name, module in model.module.named_modules()}
    model.module(minibatch(model))[2].loss.backward()
    assert {name: set(module.__dict__) for name, module in model.module.named_modules()} == before


WATCHED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "encoder": lambda m: m.z_encoder,
    "its layers": lambda m: m.z_encoder.encoder,
    "first layer": lambda m: m.z_encoder.encoder.fc_layers[0][0],
}


@pytest.mark.parametrize("part", WATCHED)
@pytest.mark.parametrize("kind", ["register_forward_pre_hook", "register_forward_hook"])
def test_hooks_see_the_dense_input(
    make_model: Make, minibatch: Any, readings: Any, part: str, kind: str
) -> None:
    model = make_model(prior="standard_normal")
    module, tensors, seen = model.module.eval(), minibatch(model), []
    handle = getattr(WATCHED[part](module), kind)(lambda m, given, *_: seen.append(given[0]))
    module.inference(**module._get_inference_input(tensors))
    assert readings.n_found == 0 and isinstance(seen[0], Tensor)
    assert torch.equal(seen[0][:, :100], tensors["X"].log1p())
    handle.remove()
    module.inference(**module._get_inference_input(tensors))
    assert readings.n_found == 1 and len(seen) == 1


def test_a_hook_on_all_modules_sees_the_dense_input(make_model: Make, minibatch: Any, readings: Any) -> None:
    model = make_model(prior="standard_normal")
    handle = nn.modules.module.register_module_forward_pre_hook(lambda m, given: None)
    try:
        model.module(minibatch(model))
    finally:
        handle.remove()
    assert readings.n_found == 0


@pytest.mark.parametrize("sparsely", [True, False])
def test_a_gradient_of_a_gradient_through_the_encoder(
    make_model: Make, minibatch: Any, readings: Any, sparsely: bool
) -> None:
    model = make_model(prior="standard_normal", sparse_encoder=sparsely, dropout_rate=0.0)
    module = model.module.eval()
    layer = module.z_encoder.encoder.fc_layers[0][0]
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    z = module.inference(**module._get_inference_input(minibatch(model)))["qz"].loc
    (gradient,) = torch.autograd.grad(z.square().sum(), layer.weight, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), layer.weight)
    assert (readings.n_found > 0) is sparsely
    expected = SECOND.setdefault("value", second)
    torch.testing.assert_close(second, expected, rtol=1e-4, atol=1e-4)


SECOND: dict[str, Tensor] = {}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """NumPy and torch take turns in looking for zeros, depending on the number of threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)

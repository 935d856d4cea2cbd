"""Tables of embeddings: gradients and decay of their rows, shards, lists as fields, and scores of all items."""

import re

import pytest
import torch
from data.training_sets import small_config
from torch import nn
from torch.nn import functional

from conf import UserError
from training.inputs.batch import Batch, IdLists
from training.inputs.schema import Inputs
from training.models import MODELS
from training.nn import full_softmax
from training.nn.initialise import initialise_weights
from training.nn.layers import FieldEmbedding, use_sparse_gradients
from training.nn.sharded_embedding import clip_grad_norm, sharded_tables
from training.optim.optimizers import make_optimizer, with_embedding_decay
from training.settings import OptimizerSettings, TrainSettings
from training.tasks import Click
from training.workers import require_sparse_exchange


def test_lazy_adam_is_adam_of_rows_that_every_batch_has_and_leaves_the_others_and_their_moments() -> None:
    torch.manual_seed(0)
    start, train = torch.randn(6, 3), TrainSettings(learning_rate=0.1, weight_decay=0.01)
    tables = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    lazy, adam = (
        make_optimizer([{"params": [table]}], train, OptimizerSettings(), by_rows=by_rows)
        for table, by_rows in zip(tables, (True, False), strict=True)
    )
    for _ in range(5):
        factors = torch.randn(4, 1)
        for table, optimizer in zip(tables, (lazy, adam), strict=True):
            optimizer.zero_grad()
            # Rows 1 and 3 come in every batch, one of them twice.
            rows = torch.nn.functional.embedding(torch.tensor([1, 3, 3, 1]), table, sparse=table is tables[0])
            (rows.square() * factors).sum().backward()
            optimizer.step()
    learned, expected = (table.detach() for table in tables)
    assert torch.allclose(learned[[1, 3]], expected[[1, 3]], atol=1e-6)
    assert torch.equal(learned[[0, 2, 4, 5]], start[[0, 2, 4, 5]])  # Adam's decay moves them
    assert not torch.equal(expected[0], start[0])
    moments = lazy.state[tables[0]]["exp_avg_sq"]
    assert moments[[0, 2, 4, 5]].count_nonzero() == 0 < moments[[1, 3]].count_nonzero()


def test_sparse_gradients_are_clipped_by_the_norm_that_dense_ones_have() -> None:
    torch.manual_seed(0)
    nets = [torch.nn.ModuleList([FieldEmbedding([7, 5], 4), torch.nn.Linear(8, 1)]) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    use_sparse_gradients(nets[1])
    for net in nets:
        (net[1](net[0](torch.tensor([[1, 2], [1, 4], [6, 2]])).flatten(1)) * 100).sum().backward()
        clip_grad_norm(net, 0.5)
    dense, sparse = ([weight.grad for weight in net.parameters()] for net in nets)
    assert [one is not None and one.is_sparse for one in sparse] == [True, False, False]
    for one, other in zip(dense, sparse, strict=True):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other.to_dense(), atol=1e-6)
    assert torch.stack([one.norm() for one in dense if one is not None]).norm() == pytest.approx(0.5, abs=1e-4)


def test_an_overflow_of_float16_changes_no_row() -> None:
    table = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = make_optimizer([{"params": [table]}], TrainSettings(), OptimizerSettings(), by_rows=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    rows = torch.nn.functional.embedding(torch.tensor([1]), table, sparse=True)
    scaler.scale((rows * float("inf")).sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert torch.equal(table.detach(), torch.ones(3, 2))


@pytest.mark.parametrize(("rows", "dim"), [(3, 2), (40, 1), (65_543, 2), (140_001, 3)])
@pytest.mark.parametrize("scheme", ["uniform", "xavier"])
def test_a_table_drawn_in_blocks_starts_as_one_that_is_drawn_at_once(rows: int, dim: int, scheme: str) -> None:
    states = []
    for is_sharded in (False, True):
        torch.manual_seed(3)
        with sharded_tables(is_sharded):
            net = torch.nn.ModuleList([FieldEmbedding([rows - 1, 1], dim), torch.nn.Linear(3, 2)])
        initialise_weights(net, scheme)
        states.append([*net.state_dict().values(), torch.rand(2)])
    for whole, drawn in zip(*states, strict=True):
        assert torch.equal(whole, drawn)


def test_embeddings_have_their_own_decay_when_they_are_sharded_too() -> None:
    with sharded_tables():
        net = torch.nn.ModuleList([FieldEmbedding([7, 5], 4), torch.nn.Linear(8, 1)])
    groups = with_embedding_decay([{"params": list(net.parameters())}], net, 0.5)
    assert [group.get("weight_decay") for group in groups] == [None, 0.5]
    assert [weight.shape for weight in groups[1]["params"]] == [(12, 4)]


def test_rows_are_not_averaged_over_nccl_unless_each_has_one_owner() -> None:
    net = torch.nn.ModuleList([FieldEmbedding([7, 5], 4)])
    use_sparse_gradients(net)
    require_sparse_exchange(net, "gloo")
    with pytest.raises(UserError, match=r"^net\.sparse_gradients can't be averaged over NCCL: add net\.sharded=true"):
        require_sparse_exchange(net, "nccl")
    with sharded_tables():
        net = torch.nn.ModuleList([FieldEmbedding([7, 5], 4)])
    use_sparse_gradients(net)
    require_sparse_exchange(net, "nccl")


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"name": "momentum"}, "net.sparse_gradients works with optimizer.name adam, adagrad, sgd, not with momentum"),
        (
            {"name": "adagrad"},
            "net.sparse_gradients with optimizer.name=adagrad works without decay: set train.weight_decay=0",
        ),
    ],
)
def test_optimizers_that_take_no_sparse_gradients_are_refused(optimizer: dict[str, str], message: str) -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        make_optimizer(
            [{"params": [weight]}], TrainSettings(), OptimizerSettings.model_validate(optimizer), by_rows=True
        )


def test_embeddings_may_have_a_decay_of_their_own() -> None:
    module = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 1))
    table, weight, bias = module.parameters()
    groups = [{"params": [table, bias], "rate_factor": 0.1}, {"params": [weight]}]
    assert with_embedding_decay(groups, module, None) == groups
    parted = with_embedding_decay(groups, module, 0.5)
    assert [(group["params"], group.get("weight_decay"), group.get("rate_factor")) for group in parted] == [
        ([bias], None, 0.1),
        ([table], 0.5, 0.1),
        ([weight], None, None),
    ]
    # A row without a gradient shrinks by its decay alone.
    optimizer = make_optimizer(
        parted, TrainSettings(learning_rate=0.1, weight_decay=0.0), OptimizerSettings(name="sgd")
    )
    before = table.detach().clone()
    module(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert table[0].tolist() == pytest.approx((before[0] * (1 - 0.1 * 0.5)).tolist())


def test_the_softmax_over_all_items_is_cross_entropy_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradients, of rows of different weight; blocks of seven rows, the last one smaller."""
    monkeypatch.setattr(full_softmax, "BLOCK_SCORES", 7 * 50)
    torch.manual_seed(3)
    target, weight = torch.randint(0, 50, (30,)), torch.rand(30)
    users, items = torch.randn(30, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    losses = full_softmax.full_softmax_loss(users, items, target)
    direct = functional.cross_entropy(users @ items.T, target, reduction="none")
    torch.testing.assert_close(losses, direct)
    blocked = torch.autograd.grad((losses * weight).sum(), (users, items))
    torch.testing.assert_close(blocked, torch.autograd.grad((direct * weight).sum(), (users, items)))


def test_lists_are_fields_of_the_mean_of_their_ids() -> None:
    """Two fields, then a list of three and one of two places; zeros where a list is empty."""
    inputs = Inputs(("a", "b"), (5, 4), sequences=("c", "d"), sequence_buckets=(6, 3), sequence_lengths=(3, 2))
    embedding = FieldEmbedding(inputs, 2)
    table = embedding.table.weight.detach()
    ids = torch.tensor([[4, 1, 0, 5, 2, 0, 0], [0, 3, 1, 1, 2, 0, 2]])
    expected = [
        [table[4], table[5 + 1], (table[9 + 5] + table[9 + 2]) / 2, torch.zeros(2)],
        [table[0], table[5 + 3], (2 * table[9 + 1] + table[9 + 2]) / 3, table[15 + 2]],
    ]
    torch.testing.assert_close(embedding(ids).detach(), torch.stack([torch.stack(row) for row in expected]))
    # A batch's lists, however long, are columns of the ids.
    lists = (
        IdLists(torch.tensor([3, 3, 5, 2, 1, 1, 2]), torch.tensor([0, 4, 7])),
        IdLists(torch.tensor([2]), torch.tensor([0, 0, 1])),
    )
    batch = Batch(ids[:, :2], torch.zeros(2, 0), torch.zeros(2), torch.ones(2), lists)
    sparse, *_ = Click().model_inputs(batch, inputs)
    assert sparse.tolist() == [[4, 1, 3, 5, 2, 0, 0], [0, 3, 1, 1, 2, 0, 2]]


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.task.kind == "examples"])
def test_click_models_read_lists(name: str) -> None:
    """Another list is another click; nothing else differs in the two rows."""
    model = MODELS[name]
    inputs = Inputs(
        ("user_id", "item_id"), (5, 4), ("x",), model.task.lists, 4, model.task.labels, list_length=2,
        sequences=("last_cart",), sequence_buckets=(6,), sequence_lengths=(3,),
    )  # fmt: skip
    torch.manual_seed(1)
    net = model.build(small_config("net.hidden=[16]"), inputs).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    empty = IdLists(torch.zeros(0, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    lists = (*[empty] * len(model.task.lists), IdLists(torch.tensor([5, 1, 2]), torch.tensor([0, 1, 3])))
    batch = Batch(torch.ones((2, 2), dtype=torch.int64), torch.ones(2, 1), torch.zeros(2), torch.ones(2), lists)
    first, second = model.task.predict(net, batch, inputs)
    assert not torch.allclose(first, second)

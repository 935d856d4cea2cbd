"""Losses, optimizers, schedules and augmentations, each against a value known another way."""

import logging
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from data.training_sets import make_job, small_config
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from conf import UserError
from training.inputs.batch import Batch
from training.inputs.feed import read_epoch
from training.inputs.sampling import apply_sampling
from training.loop.fit import fit
from training.loop.state import build_objective
from training.optim.optimizers import LARS, OPTIMIZERS, make_optimizer
from training.optim.schedules import epochs_without_gain, schedule_factor
from training.saved import load_model
from training.settings import AugmentSettings, LossSettings, OptimizerSettings, ScheduleSettings, TrainSettings
from training.tasks import augment, losses
from training.workers import LocalWorker

DEFAULT = LossSettings()


def test_losses_of_a_score_by_hand() -> None:
    """Score 0.5 for a positive: p = 0.62246."""
    score, label, p = torch.tensor([0.5]), torch.tensor([1.0]), 1 / (1 + math.exp(-0.5))
    expected = {
        "cross_entropy": -math.log(p),
        "focal": -0.25 * (1 - p) ** 2 * math.log(p),
        "hinge": 0.5,
        "mse": (1 - p) ** 2,
        "mae": 1 - p,
        "exponential": math.exp(-0.5),
    }
    for name, value in expected.items():
        assert float(losses.BINARY[name](score, label, DEFAULT)) == pytest.approx(value, rel=1e-5), name
    assert float(losses.BINARY["hinge"](torch.tensor([0.5]), torch.tensor([0.0]), DEFAULT)) == pytest.approx(1.5)


def test_focal_without_focus_is_half_of_cross_entropy() -> None:
    score, label = torch.randn(50), (torch.rand(50) < 0.5).float()
    plain = losses.BINARY["focal"](score, label, LossSettings(focal_gamma=0, focal_alpha=0.5))
    assert torch.allclose(plain, 0.5 * losses.BINARY["cross_entropy"](score, label, DEFAULT), atol=1e-6)


def test_losses_of_classes_by_hand() -> None:
    scores, label = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
    p = math.exp(2) / (math.exp(2) + math.e + 1)
    assert float(losses.MULTI_CLASS["cross_entropy"](scores, label, DEFAULT)) == pytest.approx(-math.log(p), rel=1e-5)
    assert float(losses.MULTI_CLASS["focal"](scores, label, DEFAULT)) == pytest.approx(
        -((1 - p) ** 2) * math.log(p), rel=1e-4
    )
    assert float(losses.MULTI_CLASS["hinge"](scores, label, DEFAULT)) == pytest.approx(0)
    smooth = losses.MULTI_CLASS["cross_entropy"](scores, label, LossSettings(smoothing=0.3))
    logs = torch.log_softmax(scores, 1)[0]
    assert float(smooth) == pytest.approx(float(-0.7 * logs[0] - 0.1 * logs.sum()), rel=1e-5)


def test_losses_of_vectors_by_hand() -> None:
    a, p, n = (torch.tensor([row]) for row in ([0.0, 0.0], [1.0, 0.0], [0.0, 1.1]))
    assert float(losses.triplet(a, p, n, 0.5)) == pytest.approx(1 - 1.21 + 0.5)
    anchors, positives = torch.eye(2), 3 * torch.eye(2)
    assert losses.n_pair(anchors, positives).tolist() == pytest.approx([math.log(1 + math.exp(-3))] * 2)
    center = losses.Center(3, 2)
    assert center(torch.tensor([[3.0, 4.0]]), torch.tensor([1])).item() == pytest.approx(12.5)


def test_ctc_sums_over_all_alignments() -> None:
    """Two steps, blank and two letters: a-a, a-blank and blank-a all read as 'a', and only a-b reads as 'ab'."""
    p = torch.tensor([[[0.4, 0.5, 0.1], [0.7, 0.2, 0.1]]])  # (rows, steps, blank and classes)
    ctc = losses.MULTI_CLASS["ctc"]
    p_a = 0.5 * 0.2 + 0.5 * 0.7 + 0.4 * 0.2
    assert float(ctc(p.log(), torch.tensor([0]), DEFAULT)) == pytest.approx(-math.log(p_a), rel=1e-5)
    # −1 fills up a shorter sequence.
    both = ctc(p.log().repeat(2, 1, 1), torch.tensor([[0, 1], [0, -1]]), DEFAULT)
    assert both.tolist() == pytest.approx([-math.log(0.5 * 0.1), -math.log(p_a)], rel=1e-5)


CTC_NET = """
from torch import nn

class StepNet(nn.Module):
    def __init__(self, config, inputs):
        super().__init__()
        self.scores = nn.Embedding(inputs.list_buckets, 1 + len(inputs.classes))

    def forward(self, words):
        return self.scores(words)  # (rows, steps, blank and classes)

def build(config, inputs):
    return StepNet(config, inputs)

build.task = "title"
"""


def test_ctc_finds_the_step_that_tells_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One word of a title tells its topic, and no label says which word."""
    (tmp_path / "step_net.py").write_text(CTC_NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ["loss.name=ctc", "train.epochs=4", "train.learning_rate=0.1"]
    job = make_job(tmp_path / "ctc", "step_net:build", *overrides)
    assert fit(LocalWorker(), job)["test_accuracy"] > 0.95
    scores = load_model(job.run_folder / "model", job.config).scores.weight.detach()  # type: ignore[union-attr, operator]
    assert scores[20:26].argmax(1).tolist() == [1, 2, 3, 4, 5, 6]  # words 20 + topic tell it
    assert scores[1:10].argmax(1).tolist() == [0] * 9  # all others are blank
    with pytest.raises(UserError, match=r"loss.name=ctc needs scores of each step"):
        fit(LocalWorker(), make_job(tmp_path / "rows", "text_gru", "loss.name=ctc", rows=50))


def test_penalties_are_of_matrices_only() -> None:
    weights = [torch.tensor([[1.0, -2.0]]), torch.tensor([5.0])]
    assert float(losses.penalty(weights, LossSettings(l1=0.1, l2=0.5))) == pytest.approx(0.1 * 3 + 0.25 * 5)
    assert losses.penalty(weights, DEFAULT) == 0.0


def test_losses_of_different_size_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert losses.warn_when_unbalanced({"clicks": 0.5, "center": 500.0})
        assert not losses.warn_when_unbalanced({"clicks": 0.5, "center": 5.0})
    assert "two orders of magnitude" in caplog.text


def test_a_loss_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss.name=triplet is not for clicks; choose from cross_entropy"):
        fit(LocalWorker(), make_job(tmp_path / "a", "deepfm", "loss.name=triplet", rows=50))
    with pytest.raises(UserError, match=r"loss.name=mae is not for classes"):
        fit(LocalWorker(), make_job(tmp_path / "b", "lenet", "loss.name=mae", rows=50))


@pytest.mark.parametrize(
    ("model", "loss"),
    [("two_tower", "n_pair"), ("two_tower", "triplet"), ("deepfm", "focal"), ("deepfm", "exponential")],
)
def test_other_losses_train(tmp_path: Path, model: str, loss: str) -> None:
    job = make_job(tmp_path, model, f"loss.name={loss}", "train.epochs=3")
    numbers = fit(LocalWorker(), job)
    assert numbers["test_auc"] > 0.8 if model == "deepfm" else numbers["test_recall@10"] > 0.4


def test_the_center_loss_pulls_vectors_of_a_class_together(tmp_path: Path) -> None:
    spread = []
    for weight in (0, 0.5):
        job = make_job(
            tmp_path / str(weight), "lenet", f"loss.center={weight}", "train.epochs=5", "train.learning_rate=0.003"
        )
        assert fit(LocalWorker(), job)["test_accuracy"] > 0.9
        net = load_model(job.run_folder / "model", job.config).eval()
        batch = next(read_epoch(job.feed("test", LocalWorker()), 0))
        with torch.no_grad():
            vectors = net.features(batch.image.float() / 127.5 - 1)  # type: ignore[operator, union-attr]
        within = torch.stack([vectors[batch.label == c].var(0).sum() for c in range(6)]).mean()
        spread.append(float(within))
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_bottom_of_a_bowl(name: str) -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.tensor([[3.0, -2.0]]))
    rate = {"adadelta": 1.0, "lars": 5.0, "adagrad": 1.0}.get(name, 0.05)
    train, chosen = (
        TrainSettings(learning_rate=rate, weight_decay=0.0),
        OptimizerSettings(name=name, trust=0.01, epsilon=1e-4),
    )
    optimizer = make_optimizer([{"params": [weight]}], train, chosen)
    for _ in range(600):
        optimizer.zero_grad()
        (weight**2 * torch.tensor([1.0, 3.0])).sum().backward()
        optimizer.step()
    assert float(weight.detach().abs().max()) < 0.2


def test_one_step_of_lars_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    weight.grad = torch.tensor([[0.0, 2.0]])
    LARS([weight], lr=1.0, weight_decay=0.1, momentum=0.9, trust=0.01).step()
    # |w| = 5, |g| = 2: rate 0.01 · 5 / (2 + 0.1 · 5) = 0.02, on g + 0.1 w
    assert weight.detach().tolist()[0] == pytest.approx([3 - 0.02 * 0.3, 4 - 0.02 * 2.4])


def share(name: str, step: int, *, losses: tuple[float, ...] = (), **values: float) -> float:
    chosen = ScheduleSettings.model_validate({"name": name, **values})
    return schedule_factor(chosen, step=step, steps_per_epoch=10, epochs=4, losses=losses)


def test_schedules_by_hand() -> None:
    assert [share("step", s, factor=0.5) for s in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    assert share("exponential", 20, factor=0.5) == pytest.approx(0.25)
    assert share("natural_exponential", 20, factor=0.5) == pytest.approx(math.exp(-1))
    assert share("inverse_time", 20, factor=0.5) == pytest.approx(0.5)
    assert share("polynomial", 20, power=2) == pytest.approx(0.25)
    assert share("cosine", 20) == pytest.approx(0.5)
    assert share("cosine", 40, end=0.1) == pytest.approx(0.1)
    assert [share("constant", s, warmup_steps=4) for s in (0, 1, 3, 4)] == [0.25, 0.5, 1, 1]
    assert share("plateau", 30, losses=(0.5, 0.4, 0.41), factor=0.1) == pytest.approx(0.1)
    assert share("plateau", 30, losses=(0.5, 0.4, 0.41, 0.39), factor=0.1) == pytest.approx(0.1)
    assert share("plateau", 30, losses=(0.5, 0.4, 0.41, 0.42), factor=0.1, patience=2) == pytest.approx(0.1)


@given(st.sampled_from(["step", "exponential", "natural_exponential", "polynomial", "inverse_time", "cosine"]))
def test_rates_never_rise_after_the_warm_up(name: str) -> None:
    rates = [share(name, step) for step in range(40)]
    assert all(a >= b for a, b in pairwise(rates))
    assert 0 <= rates[-1] <= rates[0] == 1


def test_epochs_without_gain() -> None:
    assert epochs_without_gain([]) == 0
    assert epochs_without_gain([0.5, 0.4]) == 0
    assert epochs_without_gain([0.4, 0.5, 0.45]) == 2


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(6, 3, 16, 12) * 2 - 1


def test_augmentations_keep_shape_and_range_and_follow_the_seed(image: torch.Tensor) -> None:
    chosen = AugmentSettings(
        flip=True, rotate=20, shift=0.1, zoom=0.1, pad=2, hsv=0.2, contrast=0.3, pca=0.1, noise=0.1
    )
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(augment.augment(image, chosen))
    assert torch.equal(found[0], found[1])
    assert found[0].shape == image.shape
    assert float(found[0].abs().max()) <= 1 + 1e-5
    assert torch.equal(augment.augment(image, AugmentSettings()), image)


@pytest.mark.parametrize("name", ["rotate", "shift", "zoom", "hsv"])
def test_an_augmentation_by_nothing_is_the_image_itself(image: torch.Tensor, name: str) -> None:
    assert torch.allclose(augment.AUGMENTATIONS[name](image, 0.0), image, atol=1e-5)


def draws_of(seed: int, number: int) -> list[float]:
    """The numbers in [−1, 1) that augmentations of a single image draw after `torch.manual_seed(seed)`."""
    torch.manual_seed(seed)
    draws = [float(torch.empty(1).uniform_(-1, 1)) for _ in range(number)]
    torch.manual_seed(seed)
    return draws


def test_a_rotation_by_half_a_turn_mirrors_both_sides(image: torch.Tensor) -> None:
    square = image[:1, :, :12, :]
    (draw,) = draws_of(seed=5, number=1)
    assert torch.allclose(augment.rotate(square, 180 / draw), square.flip(2, 3), atol=1e-4)


def test_a_shift_moves_every_pixel_by_its_share(image: torch.Tensor) -> None:
    """By three columns and as large a share of the rows, of a picture that is the same in every row."""
    columns = image[:1, :, :1, :].expand(1, 3, 12, 12)
    draw_x, _ = draws_of(seed=5, number=2)
    moved = augment.shift(columns, 3 / 12 / draw_x)
    assert torch.allclose(moved[..., :9], columns[..., 3:], atol=1e-4)
    assert torch.allclose(moved[..., 9:], columns[..., 11:].expand(1, 3, 12, 3), atol=1e-4)  # the border is repeated


def test_a_zoom_by_two_shows_the_middle_half() -> None:
    ramp = torch.linspace(-1, 1, 33).view(1, 1, 1, 33).expand(1, 3, 33, 33)
    (draw,) = draws_of(seed=5, number=1)
    zoomed = augment.zoom(ramp, 1 / draw)
    assert torch.allclose(zoomed, ramp / 2, atol=1e-4)


def test_flip_mirrors_whole_images(image: torch.Tensor) -> None:
    torch.manual_seed(1)
    found = augment.flip(image, 1.0)
    mirrored = [bool(torch.equal(a, b.flip(2))) for a, b in zip(found, image, strict=True)]
    assert any(mirrored)
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, found, image, strict=True))


def test_a_padded_crop_is_a_shift_by_whole_pixels(image: torch.Tensor) -> None:
    torch.manual_seed(2)
    found = augment.pad(image, 2)
    padded = functional.pad(image, (2, 2, 2, 2), value=-1)
    for i in range(len(image)):
        places = [(y, x) for y in range(5) for x in range(5)]
        assert any(torch.equal(found[i], padded[i, :, y : y + 16, x : x + 12]) for y, x in places)


def test_hue_is_turned_and_grey_stays_grey() -> None:
    grey = torch.full((2, 3, 4, 4), 0.2)
    assert torch.allclose(augment.hsv(grey, 0.0001), grey, atol=1e-3)
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    # Draws of hue, saturation and value: where the last two are positive, a full colour stays at its bound.
    seed = next(seed for seed in range(100) if min(draws_of(seed, 3)) > 0)
    hue_draw, *_ = draws_of(seed, 3)
    green = augment.hsv(red, 1 / 3 / hue_draw)  # a third of the circle on
    assert green.flatten().tolist() == pytest.approx([-1, 1, -1], abs=1e-5)


def test_fancy_pca_moves_along_the_main_colour() -> None:
    torch.manual_seed(0)
    brightness = torch.rand(8, 1, 10, 10) - 0.5
    image = brightness * torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    moved = (augment.pca(image, 0.5) - image).mean(dim=(2, 3))
    assert torch.allclose(moved[:, 1], 0.5 * moved[:, 0], atol=1e-3)
    assert float(moved[:, 0].abs().max()) > 0.01


def test_five_crops_are_corners_and_centre(image: torch.Tensor) -> None:
    crops = augment.five_crops(image)
    assert len(crops) == 5
    assert all(crop.shape == image.shape for crop in crops)
    same = torch.full((1, 3, 16, 16), 0.3)
    assert all(torch.allclose(crop, same) for crop in augment.five_crops(same))


def test_images_are_augmented_for_training_only(tmp_path: Path) -> None:
    job = make_job(tmp_path, "lenet", "augment.noise=0.5", "augment.five_crops=true", rows=50)
    objective, batch = build_objective(job), next(read_epoch(job.feed("train", LocalWorker()), 0))
    objective.train()
    assert not torch.equal(objective(batch), objective(batch))
    objective.eval()
    assert torch.equal(objective(batch), objective(batch))
    answers = objective.predict(batch)
    assert torch.allclose(answers.sum(1), torch.ones(len(batch)), atol=1e-5)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_bagging_draws_are_poisson(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sparse = torch.from_numpy(rng.integers(0, 10**9, (20_000, 3)))
    ones = torch.ones(len(sparse))
    batch = Batch(sparse, torch.zeros(len(sparse), 0), ones, ones)
    weight = apply_sampling(batch, small_config("train.bagging=true", f"train.seed={seed}").get(TrainSettings)).weight
    assert float(weight.mean()) == pytest.approx(1, abs=0.05)
    assert float(weight.var()) == pytest.approx(1, abs=0.07)

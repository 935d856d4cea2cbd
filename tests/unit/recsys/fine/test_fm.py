"""The FM's kernels against the formulas written out in plain Python."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf import UserError
from features.metrics.classification import auc, log_loss
from recsys.fine.csr import Csr
from recsys.fine.fm import OnlineFM
from recsys.fine.inclusion import Inclusion
from recsys.fine.linear_variants import LinearVariant, LinearVariants, field_importance
from recsys.fine.parallel import frequent_features, partial_fit_threads
from recsys.fine.sampling import list_ids, sample_weights
from recsys.settings import FMSettings

SMALL = FMSettings(bits=10, k=3, alpha=0.1, l1=0.05, l2=0.5, alpha_v=0.1, l2_v=0.3, sigma=0.1)


class PlainFM:
    """FTRL-Proximal on w0, w and v as in the paper, one coordinate at a time."""

    def __init__(self, model: OnlineFM) -> None:
        self.s = model.settings
        self.z = {**{("w", i): 0.0 for i in range(model.size)}, "w0": 0.0}
        scale = self.s.beta / self.s.alpha_v + self.s.l2_v
        self.z |= {("v", i, f): -scale * float(v) for i, row in enumerate(model.v) for f, v in enumerate(row)}
        self.n = dict.fromkeys(self.z, 0.0)

    def touched(self, i: int) -> bool:
        return self.n["w", i] > 0

    def weight(self, key: object) -> float:
        linear = isinstance(key, tuple) and key[0] == "w"
        factor = isinstance(key, tuple) and key[0] == "v"
        l1 = self.s.l1 if linear else 0.0
        l2 = self.s.l2 if linear else self.s.l2_v if factor else 0.0
        alpha = self.s.alpha_v if factor else self.s.alpha
        z, n = self.z[key], self.n[key]
        if abs(z) <= l1:
            return 0.0
        return -(z - math.copysign(l1, z)) / ((self.s.beta + math.sqrt(n)) / alpha + l2)

    def predict(self, row: list[tuple[int, float]]) -> float:
        logit = self.weight("w0") + sum(self.weight(("w", i)) * x for i, x in row)
        for a, (i, x) in enumerate(row):
            for j, y in row[a + 1 :]:
                logit += sum(self.weight(("v", i, f)) * self.weight(("v", j, f)) for f in range(self.s.k)) * x * y
        return 1 / (1 + math.exp(-logit))

    def fit_one(self, row: list[tuple[int, float]], label: float) -> float:
        p = self.predict(row)
        gradients: dict[object, float] = {"w0": p - label}
        for i, x in row:
            gradients["w", i] = (p - label) * x
            for f in range(self.s.k):
                others = sum(self.weight(("v", j, f)) * y for j, y in row if j != i)
                gradients["v", i, f] = (p - label) * x * others
        weights = {key: self.weight(key) for key in gradients}
        for key, g in gradients.items():
            alpha = self.s.alpha_v if isinstance(key, tuple) and key[0] == "v" else self.s.alpha
            sigma = (math.sqrt(self.n[key] + g * g) - math.sqrt(self.n[key])) / alpha
            self.z[key] += g - sigma * weights[key]
            self.n[key] += g * g
        return p


def csr(rows: list[list[tuple[int, float]]]) -> Csr:
    return Csr(
        np.cumsum([0, *[len(row) for row in rows]]),
        np.array([i for row in rows for i, _ in row], np.int32),
        np.array([x for row in rows for _, x in row], np.float32),
        np.array([place for row in rows for place in range(len(row))], np.uint8),
    )


ROWS = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(0, 20), st.sampled_from([1.0, 0.5, -2.0])),
            min_size=0,
            max_size=5,
            unique_by=lambda c: c[0],
        ),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=25)
@given(ROWS)
def test_learning_follows_the_formulas(rows: list[tuple[list[tuple[int, float]], int]]) -> None:
    model = OnlineFM(SMALL)
    plain = PlainFM(model)
    expected = [plain.fit_one(row, label) for row, label in rows]
    features, labels = [row for row, _ in rows], np.array([label for _, label in rows], np.float32)
    assert model.partial_fit(csr(features), labels) == pytest.approx(expected, abs=2e-4)
    assert model.predict(csr(features)) == pytest.approx(
        [plain.predict([c for c in row if plain.touched(c[0])]) for row in features], abs=2e-4
    )


def pairs_data(n: int, seed: int) -> tuple[Csr, np.ndarray]:
    """Labels hang on whether two fields agree: nothing for a linear model, all for an FM."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, n), rng.integers(0, 6, n)
    label = (rng.random(n) < np.where(a % 2 == b % 2, 0.8, 0.2)).astype(np.float32)
    return Csr.one_hot(np.stack([a, b + 100], axis=1)), label


def test_the_factors_learn_what_a_linear_model_cannot() -> None:
    train, label = pairs_data(30_000, 1)
    test, truth = pairs_data(5_000, 2)
    scores = {}
    for k in (0, 4):
        model = OnlineFM(FMSettings(bits=10, k=k, l1=0.0, l2=0.1, sigma=0.1, alpha_v=0.1, l2_v=0.1))
        model.partial_fit(train, label)
        scores[k] = auc(truth, model.predict(test))
    assert scores[0] < 0.55
    assert scores[4] > 0.78


def test_predictions_are_calibrated() -> None:
    train, label = pairs_data(30_000, 1)
    test, truth = pairs_data(5_000, 2)
    model = OnlineFM(FMSettings(bits=10, k=4, l1=0.0, l2=0.1, sigma=0.1, alpha_v=0.1, l2_v=0.1))
    progressive = log_loss(label, model.partial_fit(train, label))
    scores = model.predict(test)
    assert abs(scores.mean() - truth.mean()) < 0.02
    assert log_loss(truth, scores) < progressive < math.log(2)


def test_a_row_of_weight_zero_teaches_nothing() -> None:
    model = OnlineFM(SMALL)
    model.partial_fit(csr([[(1, 1.0)]]), np.ones(1, np.float32), np.zeros(1, np.float32))
    assert not model.linear.any()


def test_a_saved_model_predicts_the_same_and_a_corrupt_one_is_refused(tmp_path: Path) -> None:
    train, label = pairs_data(2_000, 1)
    model = OnlineFM(FMSettings(bits=10, k=4))
    model.partial_fit(train, label)
    path = tmp_path / "fm.npz"
    model.save(path, {"edges": np.arange(3)})
    again, extra = OnlineFM.load(path)
    assert (again.predict(train) == model.predict(train)).all()
    assert extra["edges"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-40] + b"0" * 40)
    with pytest.raises(UserError, match="is corrupt: its checksum does not match"):
        OnlineFM.load(path)


def test_ids_outside_the_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"feature ids must lie in \[0, 1024\)"):
        OnlineFM(SMALL).predict(csr([[(1024, 1.0)]]))


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        OnlineFM(SMALL).partial_fit(csr([[(1, math.nan)]]), np.ones(1, np.float32))


def test_a_model_holds_float32_for_each_feature_and_no_more() -> None:
    plain, narrow = OnlineFM(SMALL), OnlineFM(SMALL.model_copy(update={"weights": "q2.13", "l1": 0.0}))
    assert plain.size == narrow.size == 1024
    assert plain.memory_bytes == 1024 * (2 + 3 + 3) * 4
    assert narrow.memory_bytes == 1024 * (4 * 2 + 4 * 4)
    assert OnlineFM(SMALL.model_copy(update={"inclusion": "bloom"})).size == 0
    assert plain.v.std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(narrow.table[:, :-1] / 2**13, plain.v, atol=2**-14)  # the same draws, rounded
    assert not narrow.table[:, -1].any()
    coarse = OnlineFM(SMALL.model_copy(update={"weights": "q2.13", "l1": 0.0, "sigma": 10.0}))
    assert (coarse.table.min(), coarse.table.max()) == (-32768, 32767)
    rows = csr([[(1, 1.0), (5, 0.5)]])
    assert {plain.partial_fit(rows, np.ones(1)).dtype, plain.predict(rows).dtype} == {np.dtype(np.float32)}
    assert (plain.scoring_table().shape, plain.scoring_table().dtype) == ((1024, 4), np.float32)


def test_labels_and_fields_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 rows, 2 labels"):
        OnlineFM(SMALL).partial_fit(csr([[(1, 1.0)]]), np.ones(2, np.float32))
    with pytest.raises(ValueError, match="needs the number of fields"):
        OnlineFM(SMALL.model_copy(update={"field_aware": True}))
    with pytest.raises(UserError, match=r"needs fm\.l1=0 and fm\.field_aware=false"):
        OnlineFM(SMALL.model_copy(update={"weights": "q2.13", "l1": 0.0, "field_aware": True}), fields=2)
    assert OnlineFM(SMALL, fields=2).fields == 0
    assert OnlineFM(SMALL.model_copy(update={"field_aware": True}), fields=2).width == 6


@pytest.mark.parametrize("k", [0, 3])
def test_a_file_holds_only_features_that_were_learned_from(tmp_path: Path, k: int) -> None:
    model = OnlineFM(SMALL.model_copy(update={"k": k}))
    model.partial_fit(csr([[(1, 1.0)], [(5, 0.5), (9, 1.0)]]), np.ones(2, np.float32))
    model.save(tmp_path / "fm.npz", {})
    with np.load(tmp_path / "fm.npz") as file:
        assert file["used"].tolist() == [1, 5, 9]
        assert file["linear"].shape == (3, 2)


def test_a_file_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = OnlineFM(SMALL)
    monkeypatch.setattr("recsys.fine.fm.VERSION", 1)
    model.save(tmp_path / "fm.npz", {})
    monkeypatch.undo()
    with pytest.raises(UserError, match="has version 1, this is 2: train again"):
        OnlineFM.load(tmp_path / "fm.npz")


def test_a_model_of_given_arrays_changes_them_in_place() -> None:
    whole = OnlineFM(SMALL)
    arrays = [whole.linear[:6].copy(), whole.v[:6].copy(), whole.s[:6].copy(), whole.bias.copy()]
    part = OnlineFM.from_arrays(SMALL, 0, *arrays)
    rows, label = csr([[(1, 1.0), (5, 0.5)]] * 3), np.array([1, 0, 1], np.float32)
    assert (part.partial_fit(rows, label) == whole.partial_fit(rows, label)).all()
    assert part.settings == SMALL
    for array, expected in zip(arrays, (whole.linear[:6], whole.v[:6], whole.s[:6], whole.bias), strict=True):
        assert np.array_equal(array, expected)


def test_a_feature_never_learned_from_counts_for_nothing() -> None:
    train, label = pairs_data(2_000, 1)
    model = OnlineFM(FMSettings(bits=10, k=4, sigma=1.0))
    model.partial_fit(train, label)
    known, more = csr([[(0, 1.0), (100, 1.0)]]), csr([[(0, 1.0), (100, 1.0), (900, 1.0)]])
    assert model.predict(known) == model.predict(more)


def sparse_data(n: int, seed: int) -> tuple[Csr, np.ndarray]:
    """Four fields, Zipf ids, a logistic truth with pairs: like clicks, a rate of about 0.2."""
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.4, (n, 4)), 2_000) - 1 + np.arange(4) * 2_000
    truth = np.random.default_rng(99)
    weights, factors = truth.normal(0, 0.6, 8_000), truth.normal(0, 0.5, (8_000, 3))
    total = factors[ids].sum(axis=1)
    logit = -1.5 + weights[ids].sum(axis=1) + 0.5 * (total**2 - (factors[ids] ** 2).sum(axis=1)).sum(axis=1)
    return Csr.one_hot(ids), (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)


BASE = FMSettings(bits=13, k=4, l1=0.0, l2=1.0, sigma=0.05)


@pytest.fixture(scope="module")
def clicks() -> tuple[Csr, np.ndarray]:
    return sparse_data(60_000, 5)


@pytest.fixture(scope="module")
def base_loss(clicks: tuple[Csr, np.ndarray]) -> float:
    return log_loss(clicks[1], OnlineFM(BASE).partial_fit(*clicks))


def test_the_same_seed_gives_the_same_bits_and_two_cores_the_same_quality(
    clicks: tuple[Csr, np.ndarray], base_loss: float
) -> None:
    once, again, two = OnlineFM(BASE), OnlineFM(BASE), OnlineFM(BASE)
    assert (once.partial_fit(*clicks) == again.partial_fit(*clicks)).all()
    assert (once.v == again.v).all()
    assert log_loss(clicks[1], partial_fit_threads(two, *clicks, threads=2)) == pytest.approx(base_loss, rel=0.01)
    assert two.bias_weight() == pytest.approx(once.bias_weight(), abs=0.1)


@pytest.mark.parametrize("update", [{}, {"weights": "q2.13", "l1": 0.0}, {"field_aware": True, "k": 4}])
def test_cores_that_meet_in_frequent_features_learn_as_well(update: dict[str, object]) -> None:
    """Half of the fields have one value in most rows: these are learned in copies, and nothing of them is lost."""
    rng = np.random.default_rng(8)
    ids = rng.integers(0, 2000, (60_000, 6)) + np.arange(6) * 2000
    ids[:, :3] = np.minimum(rng.zipf(1.5, (60_000, 3)), 2000) - 1 + np.arange(3) * 2000
    truth = rng.normal(0, 0.5, 12_000)
    label = (rng.random(60_000) < 1 / (1 + np.exp(1 - truth[ids].sum(axis=1)))).astype(np.float32)
    rows, settings = Csr.one_hot(ids), BASE.model_copy(update={"bits": 14, **update})
    assert 5 < len(frequent_features(rows)) < 1024
    one, two = OnlineFM(settings, fields=6), OnlineFM(settings, fields=6)
    expected, found = one.partial_fit(rows, label), partial_fit_threads(two, rows, label, threads=2)
    assert log_loss(label, found) == pytest.approx(log_loss(label, expected), rel=0.01)
    assert two.size == one.size
    hot = frequent_features(rows)
    np.testing.assert_allclose(two.s[hot, -1], one.s[hot, -1], rtol=0.2)
    assert log_loss(label, two.predict(rows)) == pytest.approx(log_loss(label, one.predict(rows)), rel=0.01)


def test_16_bit_weights_halve_the_memory_of_weights_and_cost_nothing(
    clicks: tuple[Csr, np.ndarray], base_loss: float
) -> None:
    """R7."""
    model = OnlineFM(BASE.model_copy(update={"weights": "q2.13"}))
    scores = model.partial_fit(*clicks)
    assert model.scoring_table().nbytes * 2 == OnlineFM(BASE).scoring_table().nbytes
    assert log_loss(clicks[1], scores) == pytest.approx(base_loss, rel=0.005)
    assert scores.mean() == pytest.approx(clicks[1].mean(), abs=0.01)
    with pytest.raises(UserError, match=r"needs fm\.l1=0"):
        OnlineFM(BASE.model_copy(update={"weights": "q2.13", "l1": 0.5}))


def test_rounding_is_right_on_average() -> None:
    from recsys.fine.ftrl import round_to_fixed

    state = np.array([15], np.uint32)
    rounded = np.array([round_to_fixed(np.float32(0.3001), state) for _ in range(4000)])
    assert set(rounded.tolist()) == {2458, 2459}
    assert rounded.mean() / 2**13 == pytest.approx(0.3001, abs=1e-5)
    assert round_to_fixed(np.float32(9), state) == 32767
    assert round_to_fixed(np.float32(-9), state) == -32768


@pytest.mark.parametrize(("inclusion", "loss"), [("bloom", 1.01), ("poisson", 1.02)])
def test_inclusion_holds_fewer_features_at_nearly_the_same_loss(
    clicks: tuple[Csr, np.ndarray], base_loss: float, inclusion: str, loss: float
) -> None:
    """R6: features seen once or twice are most of the features."""
    every = len(np.unique(clicks[0].index))
    model = OnlineFM(
        BASE.model_copy(update={"inclusion": inclusion, "inclusion_probability": 0.2, "inclusion_count": 4})
    )
    assert log_loss(clicks[1], model.partial_fit(*clicks)) < base_loss * loss
    assert model.size < 0.75 * every
    assert model.memory_bytes < 0.75 * every * (4 * 2 + 4 * 8) + 100


def test_poisson_inclusion_draws_with_its_probability() -> None:
    found = Inclusion(probability=0.1)
    rows = found.allocate(np.arange(100_000, dtype=np.int32))
    assert found.num_features == (rows >= 0).sum() == pytest.approx(10_000, rel=0.05)
    assert sorted(rows[rows >= 0]) == list(range(found.num_features))
    held = np.flatnonzero(rows >= 0)
    assert (found.lookup(held) == rows[held]).all()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 60), max_size=300), st.integers(1, 5))
def test_bloom_inclusion_is_never_late(ids: list[int], threshold: int) -> None:
    rows = Inclusion(threshold=threshold, bloom_bits=10).allocate(np.array(ids, np.int64))
    seen: dict[int, int] = {}
    for feature, row in zip(ids, rows, strict=True):
        seen[feature] = seen.get(feature, 0) + 1
        assert row >= 0 or seen[feature] < threshold


def test_bloom_inclusion_is_rarely_early() -> None:
    rows = Inclusion(threshold=3, bloom_bits=16).allocate(np.arange(5_000).repeat(2))
    assert (rows >= 0).mean() < 0.01


@pytest.mark.parametrize("update", [{"inclusion": "bloom"}, {"weights": "q2.13"}, {"field_aware": True}])
def test_every_kind_of_model_goes_on_from_its_file_as_if_never_stopped(
    tmp_path: Path, clicks: tuple[Csr, np.ndarray], update: dict[str, object]
) -> None:
    rows, label = clicks
    model = OnlineFM(BASE.model_copy(update=update), fields=4)
    model.partial_fit(rows[:20_000], label[:20_000])
    model.save(tmp_path / "fm.npz", {})
    again, _ = OnlineFM.load(tmp_path / "fm.npz")
    tail = slice(20_000, 30_000)
    assert (model.partial_fit(rows[tail], label[tail]) == again.partial_fit(rows[tail], label[tail])).all()
    assert (model.predict(rows) == again.predict(rows)).all()


def test_field_aware_factors_follow_the_formula() -> None:
    """p = σ(w0 + Σ w x + Σ_{a<b} <v[a, field b], v[b, field a]> x x), before anything is learned: w = w0 = 0."""
    model = OnlineFM(FMSettings(bits=10, k=2, field_aware=True, sigma=0.5), fields=3)
    row = [(5, 1.0), (9, -0.5), (700, 2.0)]
    v = model.v.reshape(1024, 3, 2)
    logit = sum(v[i, b] @ v[j, a] * x * y for a, (i, x) in enumerate(row) for b, (j, y) in enumerate(row) if a < b)
    assert model.partial_fit(csr([row]), np.ones(1, np.float32))[0] == pytest.approx(
        1 / (1 + math.exp(-logit)), rel=1e-5
    )
    train, label = pairs_data(20_000, 1)
    learned = OnlineFM(FMSettings(bits=10, k=2, l1=0.0, field_aware=True, sigma=0.1, alpha_v=0.1, l2_v=0.1), fields=2)
    learned.partial_fit(train, label)
    assert auc(label, learned.predict(train)) > 0.78


def test_gradient_sums_from_counts_learn_as_well_as_sums_of_their_own(clicks: tuple[Csr, np.ndarray]) -> None:
    """R9: Σg² ≈ P·N/(P+N), against the linear FTRL that keeps √n for each weight."""
    rows, label = clicks
    own = log_loss(label, OnlineFM(FMSettings(bits=13, k=0, alpha=0.1, l1=0.0)).partial_fit(rows, label))
    variants = LinearVariants([LinearVariant(alpha=0.1)], 1 << 13, 4)
    assert log_loss(label, variants.partial_fit(rows, label)[:, 0]) == pytest.approx(own, rel=0.01)
    assert variants.counts.sum() == 5 * len(label)  # four features and the bias each


def test_many_models_in_one_pass_are_those_of_a_pass_each(clicks: tuple[Csr, np.ndarray]) -> None:
    """R8: and cost less memory than a model each."""
    rows, label = clicks
    kinds = [LinearVariant(), LinearVariant(alpha=0.2, l1=0.3), LinearVariant(fields=frozenset({0, 2}))]
    together = LinearVariants(kinds, 1 << 13, 4)
    alone = [LinearVariants([kind], 1 << 13, 4) for kind in kinds]
    found = together.partial_fit(rows, label)
    for m, model in enumerate(alone):
        assert found[:, m] == pytest.approx(model.partial_fit(rows, label)[:, 0], abs=1e-6)
    assert together.memory_bytes < 0.6 * sum(model.memory_bytes for model in alone)


def test_one_shared_weight_serves_models_that_are_alike(clicks: tuple[Csr, np.ndarray]) -> None:
    """R8, single value structure."""
    rows, label = clicks
    kinds = [LinearVariant(alpha=0.05), LinearVariant(alpha=0.06), LinearVariant(alpha=0.05, l2=2.0)]
    single, separate = LinearVariants(kinds, 1 << 13, 4, share_weights=True), LinearVariants(kinds, 1 << 13, 4)
    shared, own = single.partial_fit(rows, label), separate.partial_fit(rows, label)
    assert single.z.nbytes * 3 == separate.z.nbytes
    for m in range(3):
        assert log_loss(label, shared[:, m]) == pytest.approx(log_loss(label, own[:, m]), rel=0.01)


def test_the_field_that_matters_is_the_important_one() -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 5, (20_000, 3))
    label = (rng.random(20_000) < np.where(ids[:, 1] > 2, 0.7, 0.2)).astype(np.float32)
    found = field_importance(Csr.one_hot(ids + np.arange(3) * 5), label, 15, 3)
    assert found.argmax() == 1
    assert found[1] > 0.05 > abs(found[[0, 2]]).max() * 10


def test_a_list_is_sampled_by_its_user_and_moment_and_not_by_its_place_in_the_file() -> None:
    """The draw of a list is the same in any order of the rows, and in each of several files."""
    users, at = np.array([f"u{i % 400}" for i in range(2000)], object), 1.7e9 + np.arange(2000) // 4 * 60.0
    label = np.zeros(2000, np.float32)
    weight = sample_weights(label, list_ids(users, at), 0.25, 7)
    assert weight.mean() == pytest.approx(1, abs=0.15)
    shuffled = np.random.default_rng(3).permutation(2000)
    in_other_order = sample_weights(label, list_ids(users[shuffled], at[shuffled]), 0.25, 7)
    np.testing.assert_array_equal(in_other_order, weight[shuffled])
    second_file = slice(700, 2000)
    alone = sample_weights(label[second_file], list_ids(users[second_file], at[second_file]), 0.25, 7)
    np.testing.assert_array_equal(alone, weight[second_file])
    assert (sample_weights(label, list_ids(users, at), 0.25, 8) != weight).mean() > 0.2  # another seed, other lists


def test_sub_sampling_keeps_clicked_lists_and_stays_calibrated(
    clicks: tuple[Csr, np.ndarray], base_loss: float
) -> None:
    """R9.6: a fifth of the lists without a click, each row five times."""
    rows, label = clicks
    lists = np.arange(len(label)) // 2
    weight = sample_weights(label, lists, 0.2, 7)
    clicked = np.repeat(label.reshape(-1, 2).any(axis=1), 2)
    assert (weight[clicked] == 1).all()
    assert set(np.unique(weight[~clicked])) == {0.0, 5.0}
    assert weight.sum() == pytest.approx(len(label), rel=0.02)
    model = OnlineFM(BASE)
    kept = weight > 0
    model.partial_fit(rows, label, weight)
    fresh, truth = sparse_data(20_000, 6)
    whole = OnlineFM(BASE)
    whole.partial_fit(rows, label)
    assert kept.mean() < 0.6
    assert model.predict(fresh).mean() == pytest.approx(truth.mean(), abs=0.015)
    assert log_loss(truth, model.predict(fresh)) < 1.02 * log_loss(truth, whole.predict(fresh))

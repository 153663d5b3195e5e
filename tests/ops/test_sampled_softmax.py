"""Sampled and in-batch softmax: what is drawn, the full softmax, sparse gradients, refusals."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops.ops.sampled_softmax import samplers

BACKENDS = ("xla", "reference")
COUNTS = np.array([99, 5, 0, 20, 1, 74])
TABLE = samplers.alias_table("test", COUNTS, 0.75, 6)


def _inputs(b: int, d: int, v: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    inputs, weights = rng.normal(size=(b, d)), rng.normal(size=(v + 1, d))
    return inputs.astype("float32"), rng.integers(1, v + 1, b), weights.astype("float32")


def _probabilities(sampler: str) -> np.ndarray:
    """Of ids 1..5."""
    k = np.arange(1, 6)
    weights = {
        "uniform": np.ones(5),
        "log_uniform": np.log((k + 1) / k),
        "frequency": COUNTS[1:] ** 0.75,
    }[sampler]
    return weights / weights.sum()


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_draws_follow_the_distribution_and_never_pad(sampler: str, jit: bool) -> None:
    size, labels = 40_000, tf.constant([1, 3, 5])

    @tf.function(jit_compile=jit)
    def drawn(seed: tf.Tensor) -> samplers.Sampled:
        return samplers.draw(labels, 5, size, sampler, TABLE, seed)

    ids, log_labels, log_ids = (t.numpy() for t in drawn(tf.constant(3)))
    p = _probabilities(sampler)
    found = np.bincount(ids, minlength=6)
    assert found[0] == 0
    # Five standard deviations of a share of 40,000 draws.
    np.testing.assert_allclose(found[1:] / size, p, atol=5 * np.sqrt(0.25 / size))
    assert (found[1:] > 0).tolist() == (p > 0).tolist()
    np.testing.assert_allclose(log_labels, np.log(size * p[[0, 2, 4]]), rtol=1e-6)
    np.testing.assert_allclose(log_ids, np.log(size * p[ids - 1]), rtol=1e-6)
    again, other = drawn(tf.constant(3))[0], drawn(tf.constant(4))[0]
    np.testing.assert_array_equal(ids, again)
    assert np.mean(ids == other.numpy()) < 0.9


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_a_seed_draws_the_same_under_jit(sampler: str) -> None:
    labels = tf.constant([1, 3, 5])

    def drawn() -> samplers.Sampled:
        return samplers.draw(labels, 5, 50, sampler, TABLE, 7)

    eager, jitted = drawn(), tf.function(drawn, jit_compile=True)()
    np.testing.assert_array_equal(eager[0], jitted[0])
    assert len(set(eager[0].numpy())) > 1


def _chi_square(found: np.ndarray, expected: np.ndarray) -> float:
    """The statistic as a number of standard deviations (Wilson and Hilferty)."""
    freedom = found.size - 1
    statistic = float(((found - expected) ** 2 / expected).sum())
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_draws_of_one_step_say_nothing_of_the_next(sampler: str, jit: bool) -> None:
    size, steps = 10_000, 5
    labels = tf.constant([1])

    @tf.function(jit_compile=jit)
    def drawn(step: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([tf.constant(3), step])
        return samplers.draw(labels, 5, size, sampler, TABLE, seed)[0]

    ids = np.stack([drawn(tf.constant(step)).numpy() for step in range(steps)])
    possible = np.flatnonzero(_probabilities(sampler)) + 1
    p = _probabilities(sampler)[possible - 1]
    found = np.bincount(ids.ravel(), minlength=6)[possible]
    assert _chi_square(found, ids.size * p) < 5
    # One place of one step beside the same place of the next: pairs are products.
    pairs = np.bincount((6 * ids[:-1] + ids[1:]).ravel(), minlength=36).reshape(6, 6)
    pairs = pairs[np.ix_(possible, possible)]
    assert _chi_square(pairs, pairs.sum() * np.outer(p, p)) < 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_classes_without_correction_give_the_full_softmax(backend: str) -> None:
    inputs, labels, weights = _inputs(6, 4, 7)
    ids = np.arange(1, 8)
    sampled = (ids, np.zeros(6, "float32"), np.zeros(7, "float32"))
    loss = ops.sampled_softmax(
        inputs, labels, weights, num_sampled=7, sampled=sampled, backend=backend
    )
    full = tf.nn.sparse_softmax_cross_entropy_with_logits(labels - 1, inputs @ weights[1:].T)
    np.testing.assert_allclose(loss, full, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_seed_each_call_draws_anew(backend: str) -> None:
    inputs, labels, weights = _inputs(6, 4, 50)

    @tf.function(jit_compile=True)
    def loss() -> tf.Tensor:
        return ops.sampled_softmax(inputs, labels, weights, num_sampled=4, backend=backend)

    assert not np.allclose(loss(), loss())


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_the_tables_are_sparse(backend: str) -> None:
    inputs, labels, weights = _inputs(3, 4, 50)
    table, biases = tf.Variable(weights), tf.Variable(np.zeros(51, "float32"))

    def gradients() -> list[tf.IndexedSlices]:
        with tf.GradientTape() as tape:
            loss = ops.sampled_softmax(
                inputs, labels, table, biases, num_sampled=5, seed=1, backend=backend
            )
        found = tape.gradient(loss, [table, biases])
        assert all(isinstance(g, tf.IndexedSlices) for g in found)
        assert found[0].values.shape == (8, 4)
        return found

    gradients()
    tf.function(gradients)()


@pytest.mark.parametrize("backend", ["cpp", *BACKENDS])
def test_the_biases_of_the_candidates_alone_are_read(backend: str) -> None:
    inputs, labels, weights = _inputs(3, 4, 50)
    table, biases = tf.Variable(weights), tf.Variable(np.linspace(0, 1, 51, dtype="float32"))
    options = {"num_sampled": 5, "seed": 1, "backend": backend}

    @tf.function
    def loss() -> tf.Tensor:
        return ops.sampled_softmax(inputs, labels, table, biases, **options)

    graph = loss.get_concrete_function().graph
    made = [out for op in graph.get_operations() for out in op.outputs]
    assert not [out for out in made if out.dtype == tf.float32 and 51 in out.shape]
    want = ops.sampled_softmax(inputs, labels, weights, biases.numpy(), **options)
    np.testing.assert_allclose(loss(), want, rtol=1e-6)


def test_an_alias_table_stands_for_its_counts() -> None:
    inputs, labels, weights = _inputs(6, 4, 5)
    options = {"num_sampled": 9, "sampler": "frequency", "seed": 1}
    want = ops.sampled_softmax(inputs, labels, weights, counts=COUNTS, **options)
    table = samplers.AliasTable(*map(tf.Variable, TABLE))
    got = ops.sampled_softmax(inputs, labels, weights, counts=table, **options)
    np.testing.assert_array_equal(got, want)
    bad = table._replace(log_p=table.threshold)
    with pytest.raises(ValueError, match=r"AliasTable of 5 ids .* got \[\[5\], \[5\], \[5\]\]"):
        ops.sampled_softmax(inputs, labels, weights, counts=bad, **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_batch_is_the_softmax_over_the_batch(backend: str) -> None:
    queries, _, items = _inputs(6, 4, 5)
    loss = ops.in_batch_softmax(queries, items, temperature=0.1, backend=backend)
    want = tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(6), queries @ items.T / 0.1)
    np.testing.assert_allclose(loss, want, rtol=1e-4, atol=1e-5)
    # One item all over leaves no negative.
    same = ops.in_batch_softmax(queries, items, np.full(6, 3), backend=backend)
    np.testing.assert_allclose(same, np.zeros(6), atol=1e-6)


# The native backward goes over the candidates some thousands at a time: two times and a rest here.
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_native_gradients_of_many_candidates(dtype: str, bound: float) -> None:
    rng = np.random.default_rng(0)
    queries, items = (rng.normal(size=(2700, 128)).astype("float32") / 4 for _ in range(2))
    ids = rng.integers(1, 2000, size=2700)  # so that many candidates are a row's own

    def gradients(backend: str, dtype: str) -> list[np.ndarray]:
        given = [tf.cast(array, dtype) for array in (queries, items)]
        log_q = tf.constant(np.log(1 + ids / 2000), dtype)
        with tf.GradientTape() as tape:
            tape.watch([*given, log_q])
            loss = ops.in_batch_softmax(*given, item_ids=ids, log_q=log_q, backend=backend)
            total = tf.reduce_sum(loss * tf.cast(tf.range(2700), loss.dtype))
        return [tf.cast(g, tf.float64).numpy() for g in tape.gradient(total, [*given, log_q])]

    for got, want in zip(gradients("cpp", dtype), gradients("reference", "float64")):
        assert np.abs(got - want).max() < bound * np.abs(want).max()


_PEAK = """
import numpy as np, tensorflow as tf
from recops import ops

def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

def backward(rows):
    given = [tf.random.stateless_normal([rows, 64], [0, i]) / 8 for i in range(2)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = tf.reduce_sum(ops.in_batch_softmax(*given, backend="cpp"))
    before = peak()
    tape.gradient(loss, given)
    return peak() - before

backward(256)
print(backward(12288))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
def test_native_backward_keeps_no_copies_of_all_candidates() -> None:
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    # Gradients, and candidates in two orders, are 15 MiB; copies of the sums may be 16 and were 45.
    assert float(done.stdout) < 36


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_batches_and_large_logits(backend: str) -> None:
    for b in (0, 1):
        inputs, labels, weights = _inputs(b, 4, 5)
        loss = ops.sampled_softmax(
            1e4 * inputs, labels, weights, num_sampled=3, seed=2, backend=backend
        )
        assert loss.shape == (b,)
        assert np.isfinite(loss).all()
        assert ops.in_batch_softmax(inputs, inputs, backend=backend).shape == (b,)


def test_a_label_without_a_row_is_named() -> None:
    inputs, labels, weights = _inputs(3, 4, 5)
    labels[1] = 6
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"id 6 .* 6 rows"):
        ops.sampled_softmax(inputs, labels, weights, num_sampled=2)
    jitted = tf.function(ops.sampled_softmax, jit_compile=True)
    loss = jitted(inputs, labels, weights, num_sampled=2)
    assert np.isnan(loss).tolist() == [False, True, False]


@pytest.mark.parametrize("backend", ["cpp", *BACKENDS])
def test_a_given_id_without_a_row_is_named(backend: str) -> None:
    inputs, labels, weights = _inputs(3, 4, 5)
    sampled = (np.array([2, 6]), np.zeros(3, "float32"), np.zeros(2, "float32"))
    options = {"num_sampled": 2, "sampled": sampled, "backend": backend}
    with pytest.raises(tf.errors.InvalidArgumentError, match="sampled: id 6 in column 1"):
        ops.sampled_softmax(inputs, labels, weights, **options)
    # Clamped, as XLA's gather would have it, the loss would be finite and of another id.
    jitted = tf.function(lambda: ops.sampled_softmax(inputs, labels, weights, **options))
    with pytest.raises(tf.errors.InvalidArgumentError, match="sampled: id"):
        jitted()
    loss = tf.function(
        lambda: ops.sampled_softmax(inputs, labels, weights, **options), jit_compile=True
    )()
    assert np.isnan(loss).all()


def test_counts_of_another_length_and_type_have_a_table_of_their_own() -> None:
    # The same bytes.
    long = np.array([0, 0, 5, 0, 7, 0], np.int32)
    short = np.array([0, 5, 7], np.int64)
    assert long.tobytes() == short.tobytes()
    labels = tf.constant([1, 2, 1])
    for counts in (long, short):
        table = samplers.alias_table("test", counts, 0.75, None)
        ids = samplers.draw(labels, len(counts) - 1, 50, "frequency", table, 1)[0]
        assert set(ids.numpy()) == set(np.flatnonzero(counts))


def test_wrong_arguments_are_told_what_came() -> None:
    inputs, labels, weights = _inputs(3, 4, 5)
    with pytest.raises(ValueError, match=r"weights must have shape \[V \+ 1, 4\], got \[6, 3\]"):
        ops.sampled_softmax(inputs, labels, weights[:, :3], num_sampled=2)
    with pytest.raises(ValueError, match="one of uniform, log_uniform, frequency, got 'zipf'"):
        ops.sampled_softmax(inputs, labels, weights, num_sampled=2, sampler="zipf")
    with pytest.raises(ValueError, match=r"needs counts .* got None"):
        ops.sampled_softmax(inputs, labels, weights, num_sampled=2, sampler="frequency")
    with pytest.raises(ValueError, match=r"counts must be \[6\] finite numbers"):
        ops.sampled_softmax(
            inputs, labels, weights, num_sampled=2, sampler="frequency", counts=COUNTS[:4]
        )
    for bad in ({"counts": [1, np.inf, 1, 1, 1, 1]}, {"counts": COUNTS, "distortion": np.nan}):
        with pytest.raises(ValueError, match="finite"):
            ops.sampled_softmax(inputs, labels, weights, num_sampled=2, sampler="frequency", **bad)
    with pytest.raises(ValueError, match="positive integer, got 0"):
        ops.sampled_softmax(inputs, labels, weights, num_sampled=0)
    with pytest.raises(ValueError, match="float64"):
        ops.sampled_softmax(inputs, labels, weights.astype("float64"), num_sampled=2)
    with pytest.raises(ValueError, match="temperature must be a number above 0, got 0"):
        ops.in_batch_softmax(inputs, inputs, temperature=0)

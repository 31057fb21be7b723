"""Sums that go on from a file: the same bits, every piece once, whatever happened to the process or to the file."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import binary, deep, network, shallow

import refvlm
from refvlm.checks import FileFormatError
from refvlm.enumeration.blocks import Gaps, Node, Tree, code_pieces
from refvlm.inference.kept import journal_of

LATENTS, OBSERVED = 16, 5  # sixteen pieces


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return shallow(LATENTS, (6,), OBSERVED, rng), binary(3, OBSERVED, rng)


class Preempted(Exception):
    """What stops a run."""


def stopping(after):
    def progress(done, total):
        if done >= after:
            raise Preempted

    return progress


def stop(function, *arguments, after, **named):
    with pytest.raises(Preempted):
        function(*arguments, progress=stopping(after), **named)


def bytes_of(result):
    if isinstance(result, dict):
        return [value.tobytes() for value in result.values()]
    if isinstance(result, tuple):
        return [item for part in result for item in bytes_of(part)]
    return [result.tobytes()]


@given(st.data())
def test_gaps_and_finished_subtrees_together_are_every_leaf_once(data):
    count = 1 << data.draw(st.integers(0, 7))
    tree, gaps = Tree(count, lambda a, b: a + b), Gaps(count)
    order = []
    while (node := gaps.take(data.draw(st.integers(1, count)))) is not None:
        order.append(node)
    assert gaps.left == 0
    finished = data.draw(st.permutations(order))[: data.draw(st.integers(0, len(order)))]
    for node in finished:
        tree.add(node.number, tuple(range(node.first, node.first + node.leaves)), node.level)
    rest = Gaps(count, [node for node, _ in tree.waiting])
    assert rest.left == count - sum(node.leaves for node in finished)
    while (node := rest.take(data.draw(st.integers(1, count)))) is not None:
        tree.add(node.number, tuple(range(node.first, node.first + node.leaves)), node.level)
    assert tree.result == tuple(range(count))


@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("rows", [3, 37])
def test_a_sum_that_was_stopped_again_and_again_has_the_same_bits(tmp_path, rows, moments):
    rng = np.random.default_rng(rows)
    model, x = shallow(LATENTS, (6,), OBSERVED, rng), binary(rows, OBSERVED, rng)
    function, path = refvlm.posterior_mean if moments else refvlm.log_marginal, tmp_path / "sum"
    for after in (2, 5, 9, 14):
        stop(function, model, x, after=after, checkpoint=path, workers=2)
    seen = []
    again = function(model, x, checkpoint=path, workers=1, progress=lambda done, total: seen.append(done))
    assert again.tobytes() == function(model, x).tobytes()
    assert seen[0] >= 15
    seen.clear()
    done = function(model, x, checkpoint=path, progress=lambda done, total: seen.append(done))
    assert (done.tobytes(), seen) == (again.tobytes(), [])


def linear(rng):
    return shallow(LATENTS, (), OBSERVED, rng)


class Foreign:
    """A decoder that is no MLP."""

    def __init__(self, rng):
        self.inner = network([LATENTS, 4, OBSERVED], rng)
        self.fan_in, self.fan_out, self.calls = LATENTS, OBSERVED, 0

    def forward(self, z):
        self.calls += 1
        return self.inner.forward(z)

    def parameters(self):
        return self.inner.parameters()


def with_a_model_above(rng):
    return deep(3, 13, OBSERVED, rng)


def precise(rng):
    weights = [1e3 * rng.normal(size=(LATENTS, 3)), rng.normal(size=(3, OBSERVED))]
    return refvlm.BernoulliLVM(
        refvlm.Bernoulli(rng.normal(size=LATENTS)), refvlm.MLP(weights, [np.zeros(3), np.zeros(OBSERVED)])
    )


def foreign(rng):
    return refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=LATENTS)), Foreign(rng))


@pytest.mark.parametrize("make", [linear, with_a_model_above, precise, foreign])
@pytest.mark.parametrize("name", ["log_marginal", "log_marginal_and_grad", "vlb", "kl", "decompose"])
def test_every_kind_of_model_and_quantity_goes_on(tmp_path, make, name):
    rng = np.random.default_rng(5)
    model, x, function = make(rng), binary(4, OBSERVED, rng), getattr(refvlm, name)
    q = refvlm.AmortisedPosterior(network([OBSERVED, 7, model.latents], rng))
    arguments = (model, x) if "marginal" in name else (model, q, x)
    expected, path = bytes_of(function(*arguments)), tmp_path / "sum"
    for after in (1, 2):
        stop(function, *arguments, after=after, checkpoint=path)
    assert bytes_of(function(*arguments, checkpoint=path)) == expected


def test_rows_with_missing_bits_share_a_file(tmp_path, problem):
    model, _ = problem
    x = np.array([[0, 1, np.nan, 1, 0], [1, 1, 0, np.nan, np.nan], [0, 0, np.nan, 0, 1], [1, 0, 1, 1, 0]])
    expected, path = refvlm.log_marginal(model, x, missing="marginalise"), tmp_path / "sum"
    stop(refvlm.log_marginal, model, x, after=7, checkpoint=path, missing="marginalise")
    assert refvlm.log_marginal(model, x, checkpoint=path, missing="marginalise").tobytes() == expected.tobytes()


def test_rows_too_improbable_for_the_tables_go_on(tmp_path):
    """Their second sum has a part of its own in the file."""
    rng = np.random.default_rng(3)
    decoder = refvlm.MLP([rng.normal(size=(13, 40))], [np.full(40, 30.0)])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(13)), decoder)
    x = np.ones((33, 40), np.uint8)
    x[7] = 0
    expected, path = refvlm.log_marginal(model, x), tmp_path / "sum"
    assert expected[7] < -1000
    for after in (3, 16):
        stop(refvlm.log_marginal, model, x, after=after, checkpoint=path)
    assert refvlm.log_marginal(model, x, checkpoint=path).tobytes() == expected.tobytes()


def test_one_open_journal_serves_several_calls_in_their_order(tmp_path, problem):
    model, x = problem
    path, others = tmp_path / "sums", 1 - x
    for _ in range(2):
        with journal_of(path, model) as journal:
            for rows in (x, others):
                found = refvlm.log_marginal(model, rows, checkpoint=journal)
                assert found.tobytes() == refvlm.log_marginal(model, rows).tobytes()
    with journal_of(path, model) as journal, pytest.raises(ValueError, match="is of other data; wanted the same rows"):
        refvlm.log_marginal(model, others, checkpoint=journal)


def test_another_models_or_datas_or_kernels_journal_is_refused(tmp_path, problem, monkeypatch):
    model, x = problem
    path = tmp_path / "sum"
    stop(refvlm.log_marginal, model, x, after=3, checkpoint=path)
    before = path.read_bytes()
    other = refvlm.BernoulliLVM(model.prior, refvlm.MLP(model.decoder.weights, model.decoder.biases, "sigmoid"))
    with pytest.raises(
        ValueError, match=r"was begun with another model or posterior; wanted the same .*or another file"
    ):
        refvlm.log_marginal(other, x, checkpoint=path)
    with pytest.raises(ValueError, match="is of other data"):
        refvlm.log_marginal(model, 1 - x, checkpoint=path)
    with pytest.raises(ValueError, match="is of other data"):
        refvlm.log_marginal_so_far(model, 1 - x, path)
    with monkeypatch.context() as patch:
        patch.setattr(refvlm.enumeration.kernels.compiling, "DIGEST", "0" * 16)
        with pytest.raises(ValueError, match="was begun with another version of the kernels"):
            refvlm.log_marginal(model, x, checkpoint=path)
    with journal_of(path, model), pytest.raises(BlockingIOError, match="in use by another process"):
        refvlm.log_marginal(model, x, checkpoint=path)
    assert path.read_bytes() == before
    for name in ("notes.txt", "folder"):
        bad = tmp_path / name
        bad.write_text("hello, this is mine") if name.endswith("txt") else bad.mkdir()
        with pytest.raises((ValueError, OSError), match=r"notes\.txt is no journal|folder cannot be opened"):
            refvlm.log_marginal(model, x, checkpoint=bad)
    assert (tmp_path / "notes.txt").read_text() == "hello, this is mine"
    with pytest.raises(TypeError, match="checkpoint: got int"):
        refvlm.log_marginal(model, x, checkpoint=3)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, problem):
    """A file of several records, and the sum's bits."""
    model, x = problem
    path = tmp_path_factory.mktemp("journals") / "sum"
    for after in (3, 6, 11):
        stop(refvlm.log_marginal, model, x, after=after, checkpoint=path, workers=1)
    return path.read_bytes(), refvlm.log_marginal(model, x).tobytes()


def test_a_file_cut_off_at_any_byte_goes_on_to_the_same_bits(tmp_path, problem, stopped):
    content, expected = stopped
    path = tmp_path / "sum"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        assert refvlm.log_marginal(*problem, checkpoint=path, workers=1).tobytes() == expected, size


def test_a_changed_byte_is_refused_or_cut_off_and_never_counts(tmp_path, problem, stopped):
    content, expected = stopped
    path, refused = tmp_path / "sum", 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        try:
            assert refvlm.log_marginal(*problem, checkpoint=path, workers=1).tobytes() == expected, at
        except FileFormatError:
            refused += 1
    assert refused > len(content) / 2


def test_subtrees_that_overlap_count_once(tmp_path, problem):
    """The same finished parts twice, and parts of what was merged later."""
    model, x = problem
    path = tmp_path / "sum"
    for after in (1, 2, 3, 7):
        stop(refvlm.log_marginal, model, x, after=after, checkpoint=path, workers=1)
    with journal_of(path, model, read_only=True) as journal:
        ((key, records),) = journal._known.items()
    with journal_of(path, model) as journal:
        journal.write(key[0], [(0, *known) for known in records])
    assert len({node for node, _ in records}) > 3
    assert refvlm.log_marginal(model, x, checkpoint=path).tobytes() == refvlm.log_marginal(model, x).tobytes()


def log_joints(model, x):
    """log p(x_n, z) for every code, (N, 2**K), without a line of ours."""
    z = ((np.arange(1 << model.latents)[:, None] >> np.arange(model.latents)) & 1).astype(float)
    a = z
    for depth, (weights, biases) in enumerate(zip(model.decoder.weights, model.decoder.biases, strict=True)):
        a = (np.tanh(a) if depth else a) @ weights + biases
    log_z = -np.logaddexp(0, (1 - 2 * z) * model.prior.logits).sum(axis=1)
    return np.stack([log_z - np.logaddexp(0, (1 - 2.0 * row) * a).sum(axis=1) for row in x])


@pytest.mark.parametrize("hidden", [(), (6,)])
@pytest.mark.parametrize("rows", [3, 37])
def test_the_finished_parts_prove_a_lower_bound(tmp_path, hidden, rows):
    """Against the sum of the terms of the finished codes alone, in plain NumPy."""
    rng = np.random.default_rng(1)
    model, x = shallow(14, hidden, OBSERVED, rng), binary(rows, OBSERVED, rng)
    path, whole, terms = tmp_path / "sum", refvlm.log_marginal(model, x), log_joints(model, x)
    before = np.full(rows, -np.inf)
    for after in (1, 2, 3):
        stop(refvlm.log_marginal, model, x, after=after, checkpoint=path, workers=1)
        found = refvlm.log_marginal_so_far(model, x, path)
        codes = round(found.done * (1 << 14))
        exact = np.logaddexp.reduce(terms[:, :codes], axis=1)
        assert 0 < codes < 1 << 14
        assert (found.lower <= exact).all()
        assert (found.lower > exact - 1e-11).all()
        assert (found.lower > before).all()
        assert (found.lower < whole).all()
        before = found.lower
    refvlm.log_marginal(model, x, checkpoint=path)
    found = refvlm.log_marginal_so_far(model, x, path)
    assert found.done == 1.0
    assert (found.lower <= whole).all()
    np.testing.assert_allclose(found.lower, whole, rtol=0, atol=1e-11)


CHILD = """
import sys, numpy as np, refvlm
rng = np.random.default_rng(0)
model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=31)), refvlm.MLP.random([31, 7], rng))
x = (rng.random((5, 7)) < 0.5).astype(np.uint8)
print("ready", flush=True)
print(refvlm.log_marginal(model, x, checkpoint=sys.argv[1] or None, workers=int(sys.argv[2])).tobytes().hex())
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_killed_at_any_moment_the_sum_goes_on_to_the_same_bits(tmp_path):
    """2**31 codes; kills come at moments of a fixed stream, some before and some after the first write."""
    rng, path = np.random.default_rng(11), tmp_path / "sum"

    def run(checkpoint, workers, kill=None):
        command = [sys.executable, "-c", CHILD, str(checkpoint), str(workers)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "ready\n"
            if kill is not None:
                time.sleep(kill)
                child.send_signal(signal.SIGKILL)
            return child.stdout.read()

    expected = run("", 2)
    for kill in rng.uniform(0.1, 4.0, size=5):
        run(path, int(rng.integers(1, 4)), kill)
    assert run(path, 2) == expected


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_is_said_and_nothing_that_was_kept_is_lost(tmp_path, problem):
    model, x = problem
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        path = folder / "sum"
        stop(refvlm.log_marginal, model, x, after=6, checkpoint=path, workers=1)
        kept = path.stat().st_size
        filler = folder / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(folder).free))
        many = np.repeat(x, 100, axis=0)  # whose part of the sum needs more than what is left of a page
        with pytest.raises(OSError, match=r"cannot be written \(No space left on device\); what was kept"):
            refvlm.log_marginal(model, many, checkpoint=folder / "other")
        with journal_of(path, model) as journal:
            with pytest.raises(OSError, match="what was kept"):
                journal.write(bytes(16), [(0, Node(0, 0), (np.ones(3000),))])
            filler.unlink()
            journal.write(bytes(16), [(0, Node(0, 0), (np.ones(30),))])  # and not behind half of the other
        assert path.stat().st_size < kept + 500
        assert refvlm.log_marginal(model, x, checkpoint=path).tobytes() == refvlm.log_marginal(model, x).tobytes()
        assert refvlm.log_marginal(model, many, checkpoint=folder / "other").shape == (300,)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_an_unwritable_place_is_refused_before_any_work(tmp_path, problem):
    with pytest.raises(OSError, match="cannot be opened"):
        refvlm.log_marginal(*problem, checkpoint=tmp_path / "nowhere" / "sum", progress=lambda done, total: 1 / 0)


def test_an_executor_goes_on_from_what_threads_have_done(tmp_path, problem):
    model, x = problem
    path = tmp_path / "sum"
    stop(refvlm.log_marginal, model, x, after=5, checkpoint=path)
    with ThreadPoolExecutor(2) as executor:
        found = refvlm.log_marginal(model, x, checkpoint=path, executor=executor)
    assert found.tobytes() == refvlm.log_marginal(model, x).tobytes()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=6))
def test_no_piece_is_summed_twice(stops):
    """What all runs have computed together is each piece once, where every run is stopped by its own exception."""
    rng = np.random.default_rng(2)
    model, x = shallow(LATENTS, (), OBSERVED, rng), binary(2, OBSERVED, rng)
    pieces = len(code_pieces(LATENTS))
    assert pieces == 16
    computed, done = [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sum"
        for after in [*stops, None]:
            seen = []

            def progress(now, total, seen=seen, after=after):
                seen.append(now)
                if after is not None and now >= after:
                    raise Preempted

            with suppress(Preempted):
                refvlm.log_marginal(model, x, checkpoint=path, workers=1, progress=progress)
            assert seen == list(range(done + 1, done + 1 + len(seen)))
            computed += seen
            done += len(seen)
        assert computed == list(range(1, pieces + 1))


def test_a_node_is_what_it_says():
    assert (Node(3, 2).first, Node(3, 2).leaves) == (16, 8)

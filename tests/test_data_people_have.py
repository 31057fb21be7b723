"""Arrays as people have them: taken where they are zeros and ones, and else refused with the advice that fits."""

import numpy as np
import pytest
from problems import shallow

import refvlm
from refvlm.checks import as_binary, as_weights

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ma.masked_array([[0, 1], [1, 1]], [[0, 0], [0, 1]]), r"^x: got a missing value at row 1, column 1 \(1"),
        ([[0.0, NAN, 1.0], [NAN, NAN, 1.0]], r"^x: got a missing value at row 0, column 1 \(3 in all\), wanted"),
        (np.array([[0, 255, 3]], np.uint8), r"^x: got 255 at row 0, column 1.*binarise first.* \(x >= 128\)$"),
        ([[-1, 1, 1]], r"^x: got -1 at row 0, column 0.*\(x > 0\)$"),
        ([[0.25, 1.0, 0.0]], r"^x: got 0\.25 at row 0, column 0.*\(x >= 0\.5\)$"),
        (np.zeros((3, 4, 5)), r"^x: got shape \(3, 4, 5\), wanted two axes.*; images become rows by x\.reshape"),
        ([0, 1, 1], r"for one row write x\[None\]$"),
    ],
)  # fmt: skip
def test_what_is_no_bit_is_refused_with_what_makes_it_one(value, message):
    with pytest.raises(ValueError, match=message):
        as_binary("x", value, None)


def test_objects_are_told_how_to_become_numbers():
    with pytest.raises(TypeError, match=r"^x: got dtype object.*; if they are numbers, pass x\.astype\(float\)$"):
        as_binary("x", np.array([[0, 1], [1, 1]], object), None)


def test_missing_values_are_sent_to_marginalise():
    model = shallow(3, (), 4, np.random.default_rng(0))
    x = np.array([[0.0, NAN, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"sum such bits out with missing='marginalise'"):
        refvlm.log_marginal(model, x)
    assert np.isfinite(refvlm.log_marginal(model, x, missing="marginalise")).all()


def test_a_masked_array_without_a_mask_is_an_array():
    assert as_binary("x", np.ma.masked_array([[0, 1, 1]]), 3).tolist() == [[0, 1, 1]]
    assert as_weights(np.ma.masked_array([2.0, 3.0]), 2).tolist() == [2, 3]


def test_masked_weights_are_no_weights():
    with pytest.raises(ValueError, match=r"^weights: got 2 masked entries, wanted numbers everywhere$"):
        as_weights(np.ma.masked_array([2.0, 3.0, 4.0], [0, 1, 1]), 3)


def test_sparse_matrices_are_taken():
    """csr, coo with a number given in two parts, and one that is no bit."""
    sparse = pytest.importorskip("scipy.sparse")
    assert as_binary("x", sparse.csr_matrix([[0, 1, 0], [1, 0, 0]]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    parts = sparse.coo_array(([0.5, 0.5], ([0, 0], [1, 1])), shape=(1, 2))
    assert as_binary("x", parts, 2).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r"got 0\.5 at row 0, column 1"):
        as_binary("x", sparse.csr_array([[0, 0.5], [1, 0]]), 2)


def test_sparse_matrices_are_dense_in_bytes_alone(monkeypatch):
    """What is wider than a byte is dense for a few rows at a time, and places are those of the whole."""
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(4)
    x = rng.integers(0, 2, (11, 7))
    monkeypatch.setattr("refvlm.checks._BLOCK", 21)
    monkeypatch.setattr("refvlm.checks.available_memory", lambda: 77)
    for form in ("csr", "csc", "coo", "lil", "bsr", "dok"):
        for kind in (float, bool, np.uint8):
            bits = as_binary("x", sparse.csr_array(x.astype(kind)).asformat(form), 7, rows=11)
            assert bits.dtype == np.uint8
            assert bits.flags.c_contiguous
            assert bits.flags.writeable
            np.testing.assert_array_equal(bits, x)
    assert as_binary("x", sparse.csr_array((0, 7)), 7).shape == (0, 7)
    grey, gaps = x.astype(float), x.astype(float)
    grey[8, 5], gaps[4, 6], gaps[9, 2] = 255, NAN, NAN
    gaps[2, 0] = 7
    with pytest.raises(ValueError, match=r"^x: got 255\.0 at row 8, column 5, .*\(x >= 128\)$"):
        as_binary("x", sparse.csc_matrix(grey), 7)
    with pytest.raises(ValueError, match=r"^x: got a missing value at row 4, column 6 \(2 in all\), wanted"):
        as_binary("x", sparse.csc_matrix(gaps), 7)
    with pytest.raises(ValueError, match=r"^x: got shape \(11, 7\), wanted 5 columns"):
        as_binary("x", sparse.csr_array(x), 5)
    with pytest.raises(TypeError, match=r"^x: got dtype complex128"):
        as_binary("x", sparse.csr_array(x.astype(complex)), 7)
    for shape in ((12, 7), (2**40, 2**40)):
        with pytest.raises(
            ValueError, match=r"^x: as an array would need .*, and 77 bytes are available; pass fewer rows"
        ):
            as_binary("x", sparse.coo_array(shape), None)


def test_the_estimator_takes_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    x = np.random.default_rng(5).random((30, 4)) * np.random.default_rng(6).integers(0, 2, (30, 4))
    options = {"latents": 2, "hidden": (), "epochs": 2}
    estimator = refvlm.BernoulliLVMEstimator(binarize=0.5, **options).fit(sparse.csc_array(x))
    assert estimator.score(x) == estimator.score(sparse.coo_array(x))
    bits = (x > 0.5).astype(float)
    assert refvlm.BernoulliLVMEstimator(**options).fit(sparse.csr_matrix(bits)).score(bits) == estimator.score(x)
    with pytest.raises(ValueError, match="contains NaN"):
        estimator.score(sparse.csr_array(np.where(x > 0.9, NAN, x)))


def test_frames_are_taken_and_their_missing_values_seen():
    """Integers, booleans, pandas' own kinds; NaN and NA; words."""
    pandas = pytest.importorskip("pandas")
    rows = {"a": [0, 1, 1], "b": [True, False, True]}
    for frame in (
        pandas.DataFrame(rows),
        pandas.DataFrame(rows).astype("Int64"),
        pandas.DataFrame(rows).astype("boolean"),
    ):
        assert as_binary("x", frame, 2).tolist() == [[0, 1], [1, 0], [1, 1]]
    gaps = {"a": [0, 1, 1], "b": [1, None, 0]}
    model = shallow(3, (), 2, np.random.default_rng(1))
    wanted = refvlm.log_marginal(model, [[0, 1], [1, NAN], [1, 0]], missing="marginalise")
    for frame in (pandas.DataFrame(gaps), pandas.DataFrame(gaps, dtype="Int64")):
        with pytest.raises(ValueError, match=r"^x: got a missing value at row 1, column 1 \(1 in all\)"):
            as_binary("x", frame, 2)
        np.testing.assert_array_equal(refvlm.log_marginal(model, frame, missing="marginalise"), wanted)
    with pytest.raises(TypeError, match=r"^x: got dtype object"):
        as_binary("x", pandas.DataFrame({"a": ["yes", "no"], "b": [0, 1]}), 2)


class Frame:
    """As much of a data frame as the estimator looks at."""

    def __init__(self, values, columns):
        self.values, self.columns = np.asarray(values), columns

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_columns_in_another_order_or_of_other_names_are_refused():
    """What was silently scored wrong: -8.256 for -8.032, say."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 2, (30, 3))
    estimator = refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=2).fit(Frame(x, ["a", "b", "c"]))
    right = estimator.score(Frame(x, ["a", "b", "c"]))
    with pytest.raises(
        ValueError, match=r"^The feature names should match.*must be in the same order as they were in fit\.$"
    ):
        estimator.score(Frame(x[:, [1, 0, 2]], ["b", "a", "c"]))
    with pytest.raises(
        ValueError, match=r"unseen at fit time: d\. Feature names seen at fit time, yet now missing: c\.$"
    ):
        estimator.score(Frame(x, ["a", "b", "d"]))
    with pytest.warns(
        UserWarning, match=r"^X does not have valid feature names, but BernoulliLVMEstimator was fitted with"
    ):
        assert estimator.score(x) == right
    estimator.fit(x)
    with pytest.warns(UserWarning, match=r"^X has feature names, but BernoulliLVMEstimator was fitted without"):
        estimator.score(Frame(x, ["a", "b", "c"]))


def test_names_that_are_strings_in_part_are_refused():
    x = np.random.default_rng(2).integers(0, 2, (30, 3))
    estimator = refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=1)
    with pytest.raises(
        TypeError, match=r"input has \['int', 'str'\] as feature name / column name types; convert them"
    ):
        estimator.fit(Frame(x, ["a", 1, "c"]))
    assert not hasattr(estimator.fit(Frame(x, [0, 1, 2])), "feature_names_in_")


def test_frames_with_gaps_are_not_learnt_from():
    pandas = pytest.importorskip("pandas")
    for kind in ("Int64", "boolean", "float64", "object"):
        frame = pandas.DataFrame({"a": [0, 1, 1], "b": [1, None, 0]}).astype(kind)
        for options in ({}, {"binarize": 0.5}):
            with pytest.raises(ValueError, match="contains masked values or NA, as good as NaN"):
                refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=1, **options).fit(frame)


def test_masked_rows_are_not_learnt_from():
    x = np.ma.masked_array(np.zeros((5, 3), int), [[0, 0, 1]] + [[0, 0, 0]] * 4)
    with pytest.raises(ValueError, match="masked values"):
        refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=1).fit(x)


def test_set_output_gives_frames():
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame(np.random.default_rng(3).integers(0, 2, (20, 3)), columns=["a", "b", "c"], index=range(5, 25))
    estimator = refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=2)
    assert isinstance(estimator.fit_transform(x), np.ndarray)
    frame = estimator.set_output(transform="pandas").transform(x)
    assert list(frame.columns) == ["z0", "z1"]
    assert list(frame.index) == list(range(5, 25))
    assert isinstance(estimator.set_output(transform="default").transform(x), np.ndarray)
    with pytest.raises(ValueError, match=r"^transform: got str 'excel'"):
        estimator.set_output(transform="excel")

"""The data floor: the worlds against brute force in exact fractions, their samplers, and the digits file."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from refvlm.data import World, bars, digits, shifter

Exact = dict[tuple[int, ...], Fraction]

ERROR_RATE = 1e-9
"""Of each statistical test, in total: how often a correct sampler would fail it, over seeds."""

# Against the exact value, a term on^j (1 - on)^(n - j) errs by n + 1 units of 2^-53 from 1 - on and its power, two
# each from the two powers, and one from each of two products and the sum: for n <= 8, well below 24 units.
RELATIVE = 24 * 2.0**-53


def chance(bits: tuple[int, ...], on: Fraction) -> Fraction:
    return math.prod((on if bit else 1 - on for bit in bits), start=Fraction(1))


def exact_bars(size: int, vertical: Fraction, on: Fraction) -> Exact:
    total: Exact = defaultdict(Fraction)
    for bits in itertools.product((0, 1), repeat=size):
        columns = tuple(bits[column] for row in range(size) for column in range(size))
        rows = tuple(bits[row] for row in range(size) for column in range(size))
        total[columns] += vertical * chance(bits, on)
        total[rows] += (1 - vertical) * chance(bits, on)
    return {image: p for image, p in total.items() if p}


def exact_shifter(width: int, on: Fraction) -> Exact:
    total: Exact = defaultdict(Fraction)
    for bits in itertools.product((0, 1), repeat=width):
        for step in (1, -1):
            shifted = tuple(bits[(column + step) % width] for column in range(width))
            total[bits + bits + shifted + shifted] += chance(bits, on) / 2
    return {image: p for image, p in total.items() if p}


WORLDS = [
    pytest.param(bars(), exact_bars(4, Fraction(2 / 3), Fraction(0.2)), id="bars"),
    pytest.param(bars(3, vertical=0.25, on=0.6), exact_bars(3, Fraction(0.25), Fraction(0.6)), id="bars-3"),
    pytest.param(bars(1, on=0.3), exact_bars(1, Fraction(2 / 3), Fraction(0.3)), id="bars-1"),
    pytest.param(shifter(), exact_shifter(8, Fraction(0.3)), id="shifter"),
    pytest.param(shifter(5, on=0.7), exact_shifter(5, Fraction(0.7)), id="shifter-5"),
    pytest.param(shifter(2, on=0.4), exact_shifter(2, Fraction(0.4)), id="shifter-2"),
]
every_world = pytest.mark.parametrize(("world", "exact"), WORLDS)


@every_world
def test_the_distribution_is_that_of_brute_force_in_exact_fractions(world: World, exact: Exact) -> None:
    images = [tuple(image) for image in world.images.tolist()]
    assert sorted(exact) == images  # each once, in lexicographic order
    for image, probability in zip(images, world.probabilities.tolist(), strict=True):
        assert abs(Fraction(probability) / exact[image] - 1) <= RELATIVE


@every_world
def test_probabilities_are_positive_and_sum_to_one(world: World, exact: Exact) -> None:
    assert sum(exact.values()) == 1
    assert (world.probabilities > 0).all()
    assert abs(math.fsum(world.probabilities) - 1) <= RELATIVE


@every_world
def test_images_and_probabilities_are_read_only_tables_of_one_shape(world: World, exact: Exact) -> None:
    height, width = world.shape
    assert world.images.shape == (len(exact), height * width)
    assert world.images.dtype == np.uint8
    assert world.probabilities.shape == (len(exact),)
    for array in (world.images, world.probabilities):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@every_world
def test_entropy_is_that_of_the_exact_distribution(world: World, exact: Exact) -> None:
    entropy = -math.fsum(float(p) * math.log(p) for p in exact.values())
    assert abs(world.entropy - entropy) <= 1e-12
    assert abs(world.entropy_bits - entropy / math.log(2)) <= 1e-12


@pytest.mark.parametrize(
    ("world", "exact", "images", "bits", "digits_of_bits"),
    [
        pytest.param(bars(), exact_bars(4, Fraction(2, 3), Fraction(1, 5)), 30, 3.4284049666, 10, id="bars"),
        pytest.param(shifter(), exact_shifter(8, Fraction(3, 10)), 508, 7.988724, 6, id="shifter"),
    ],
)
def test_default_worlds_have_the_stated_entropy_floors(
    world: World, exact: Exact, images: int, bits: float, digits_of_bits: int
) -> None:
    assert len(world.images) == len(exact) == images
    assert round(world.entropy_bits, digits_of_bits) == bits
    # the parameters 2/3, 1/5 and 3/10 as rational numbers, not as floats
    assert abs(world.entropy_bits + math.fsum(float(p) * math.log2(p) for p in exact.values())) <= 1e-9


def test_docstrings_state_the_entropy_floors() -> None:
    for make in (bars, shifter):
        world, text = make(), make.__doc__ or ""
        places = 10 if make is bars else 6
        assert f"{world.entropy_bits:.{places}f} bits ({world.entropy:.{places}f} nats)" in text


def test_no_other_distribution_has_a_smaller_mean_negative_log_likelihood() -> None:
    truth = bars()
    for other in (bars(on=0.21), bars(vertical=0.66), bars(vertical=0.5, on=0.5)):
        cross = -math.fsum(truth.probabilities * other.log_probability(truth.images))
        assert cross > truth.entropy
    itself = -math.fsum(truth.probabilities * truth.log_probability(truth.images))
    assert itself == pytest.approx(truth.entropy, abs=1e-14)


def test_a_bar_lies_along_its_orientation() -> None:
    upright = bars(3, vertical=1, on=0.4).images.reshape(-1, 3, 3)
    lying = bars(3, vertical=0, on=0.4).images.reshape(-1, 3, 3)
    assert (upright == upright[:, :1, :]).all()
    assert (lying == lying[:, :, :1]).all()
    assert len(upright) == len(lying) == 2**3


def test_rows_of_the_shifter_are_doubled_and_rotations_of_each_other() -> None:
    images = shifter(5).images.reshape(-1, 4, 5)
    assert (images[:, 0] == images[:, 1]).all()
    assert (images[:, 2] == images[:, 3]).all()
    left = (np.roll(images[:, 0], -1, axis=1) == images[:, 2]).all(axis=1)
    right = (np.roll(images[:, 0], 1, axis=1) == images[:, 2]).all(axis=1)
    assert (left | right).all()
    assert (left & right).sum() == 2  # five pixels in a ring: only the blank and the full row have period two


@pytest.mark.parametrize(
    ("world", "images"),
    [
        pytest.param(bars(3, on=0), [[0] * 9], id="bars-never-on"),
        pytest.param(bars(3, on=1), [[1] * 9], id="bars-always-on"),
        pytest.param(bars(2, vertical=1, on=0.5), [[0] * 4, [0, 1] * 2, [1, 0] * 2, [1] * 4], id="bars-upright"),
        pytest.param(shifter(5, on=0), [[0] * 20], id="shifter-never-on"),
        pytest.param(shifter(5, on=1), [[1] * 20], id="shifter-always-on"),
        pytest.param(shifter(1, on=0.5), [[0] * 4, [1] * 4], id="shifter-one-pixel"),
    ],
)
def test_images_of_probability_zero_are_left_out(world: World, images: list[list[int]]) -> None:
    assert world.images.tolist() == images
    assert world.probabilities.tolist() == [1 / len(images)] * len(images)
    assert world.entropy_bits == math.log2(len(images))
    assert math.copysign(1, world.entropy) == 1  # 0.0, never -0.0
    draws = world.sample(7, np.random.default_rng(5))
    assert set(map(tuple, draws.tolist())) <= set(map(tuple, images))


def test_log_probability_is_exact_on_all_of_the_cube_and_minus_infinity_off_the_support() -> None:
    world, exact = bars(3), exact_bars(3, Fraction(2 / 3), Fraction(0.2))
    cube = np.array(list(itertools.product((0, 1), repeat=9)))
    values = world.log_probability(cube)
    assert values.shape == (2**9,)
    assert values.dtype == np.float64
    wanted = [math.log(exact[key]) if (key := tuple(row)) in exact else -math.inf for row in cube.tolist()]
    np.testing.assert_allclose(values, wanted, rtol=0, atol=2 * RELATIVE)
    assert abs(math.fsum(np.exp(values)) - 1) <= 2 * RELATIVE


def test_log_probability_takes_every_binary_dtype_and_an_empty_batch() -> None:
    world = shifter(3)
    wanted = world.log_probability(world.images)
    for dtype in (bool, np.int64, np.float32):
        assert (world.log_probability(world.images.astype(dtype)) == wanted).all()
    assert (world.log_probability(np.asfortranarray(world.images)) == wanted).all()
    assert world.log_probability(np.empty((0, 12))).shape == (0,)


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(bars(), id="bars"),
        pytest.param(bars(3, vertical=0.1, on=0.7), id="bars-3"),
        pytest.param(shifter(6), id="shifter-6"),
    ],
)
def test_sample_follows_the_exact_distribution(world: World) -> None:
    n = 100_000
    draws = world.sample(n, np.random.default_rng(1995))
    assert draws.shape == (n, world.images.shape[1])
    assert draws.dtype == np.uint8
    found, counts = np.unique(draws, axis=0, return_counts=True)
    assert np.isfinite(world.log_probability(found)).all()
    by_image = dict(zip(map(bytes, found), counts.tolist(), strict=True))
    seen = np.array([by_image.get(bytes(image), 0) for image in world.images])
    # Each count is exactly binomial. Two tails per image, by the union bound ERROR_RATE over all of them.
    tail = ERROR_RATE / (2 * len(seen))
    assert (binom.cdf(seen, n, world.probabilities) > tail).all()
    assert (binom.sf(seen - 1, n, world.probabilities) > tail).all()


def test_mean_negative_log_likelihood_of_samples_is_the_entropy() -> None:
    world, n = shifter(), 40_000
    loss = -world.log_probability(world.sample(n, np.random.default_rng(889)))
    table = -np.log(world.probabilities)
    variance = float(world.probabilities @ (table - world.entropy) ** 2)
    reach = float(np.abs(table - world.entropy).max())
    # Bernstein's inequality, two-sided, with the exact variance: it holds at every n, not only in the limit.
    log_rate = math.log(2 / ERROR_RATE)
    bound = math.sqrt(2 * variance * log_rate / n) + 2 * reach * log_rate / (3 * n)
    assert abs(loss.mean() - world.entropy) <= bound


def test_sample_spends_one_uniform_number_per_image_through_the_distribution_function() -> None:
    world, n = bars(3), 50
    draws = world.sample(n, np.random.default_rng(7))
    for image, u in zip(draws.tolist(), np.random.default_rng(7).random(n).tolist(), strict=True):
        row = world.images.tolist().index(image)
        assert math.fsum(world.probabilities[:row]) <= u < math.fsum(world.probabilities[: row + 1])


class FixedUniforms(np.random.Generator):
    """A generator whose uniform numbers lie exactly on the steps of a distribution function."""

    def random(self, *args: Any, **kwargs: Any) -> Any:
        return np.array([0, 0.25, 0.5, 0.75, 1 - 2.0**-53])


def test_an_image_owns_the_lower_end_of_its_interval_and_not_the_upper() -> None:
    world = bars(2, vertical=1, on=0.5)
    assert world.probabilities.tolist() == [0.25] * 4
    draws = world.sample(5, FixedUniforms(np.random.PCG64(0)))
    assert draws.tolist() == world.images[[0, 1, 2, 3, 3]].tolist()


def test_sample_repeats_with_the_seed_and_gives_arrays_of_its_own() -> None:
    world = bars(3)
    first, again = (world.sample(11, np.random.default_rng(3)) for _ in range(2))
    assert (first == again).all()
    first[:] = 1
    assert world.images[0].sum() == 0
    assert world.sample(0, np.random.default_rng(3)).shape == (0, 9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bars(0), ValueError, r"^size: got 0, wanted at least 1$"),
        (lambda: bars(17), ValueError, r"^size: got 17, wanted at most 16, .*; choose a smaller size$"),
        (lambda: bars(2.0), TypeError, r"^size: got float 2.0, wanted an integer$"),
        (lambda: bars(vertical=-0.1), ValueError, r"^vertical: got -0.1, wanted a probability from 0 to 1$"),
        (lambda: bars(on=1.5), ValueError, r"^on: got 1.5, wanted a probability from 0 to 1$"),
        (lambda: bars(on=math.nan), ValueError, r"^on: got nan, wanted a probability from 0 to 1$"),
        (lambda: bars(on="half"), TypeError, r"^on: got str 'half', wanted one int or float, a probability from 0"),
        (lambda: shifter(0), ValueError, r"^width: got 0, wanted at least 1$"),
        (lambda: shifter(10**9), ValueError, r"^width: got 1000000000, wanted at most 16, .*; choose a smaller width$"),
        (lambda: shifter(on=2), ValueError, r"^on: got 2, wanted a probability from 0 to 1$"),
        (lambda: shifter(on=[0.3]), TypeError, r"^on: got list \[0.3\], wanted one int or float"),
        (lambda: bars(3).sample(-1, np.random.default_rng(0)), ValueError, r"^n: got -1, wanted at least 0$"),
        (lambda: bars(3).sample(5, 0), TypeError, r"^rng: got int 0, wanted a numpy.random.Generator"),
        (lambda: bars(3).log_probability([0] * 9), ValueError, r"^x: got shape \(9,\), .* write x\[None\]$"),
        (lambda: bars(3).log_probability([[0] * 8]), ValueError, r"^x: got shape \(1, 8\), wanted 9 columns"),
        (lambda: bars(3).log_probability([[2] * 9]), ValueError, r"^x: got 2 at row 0, column 0, wanted exactly 0"),
        (lambda: digits(True), TypeError, "positional"),
    ],
)
def test_bad_arguments_are_refused_by_name(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_digits_are_the_1797_images_of_known_digest() -> None:
    x, y = digits(labels=True)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((1797, 64), np.uint8, (1797,), np.int64)
    assert np.unique(x).tolist() == [0, 1]
    assert x.sum(dtype=np.int64) == 37151  # a mean of 0.3230
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert hashlib.sha256(x.tobytes()).hexdigest() == "b025f335f2114270d2840390f597eaad0f5a68376ea897add1ff2ea6c8955bd0"
    labels_digest = "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"
    assert hashlib.sha256(y.astype(np.uint8).tobytes()).hexdigest() == labels_digest


FIRST_DIGIT = [
    "...##...",
    "..####..",
    "..#..##.",
    "..#..##.",
    "..#..##.",
    "..#..#..",
    "..#.##..",
    "...##...",
]


def test_the_first_digit_is_a_zero_with_a_hole() -> None:
    picture = digits()[0].reshape(8, 8)
    assert ["".join(".#"[pixel] for pixel in row) for row in picture] == FIRST_DIGIT


def test_digits_are_copies_of_the_caller() -> None:
    x = digits()
    wanted = x.copy()
    x[:] = 1
    assert (digits() == wanted).all()


def test_digits_equal_the_same_file_in_scikit_learn() -> None:
    original = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = digits(labels=True)
    assert (x == (original.data >= 8)).all()
    assert (y == original.target).all()


def test_digits_file_carries_its_credit_and_licence_and_no_pickle() -> None:
    folder = files("refvlm.data")
    for text in (folder.joinpath("digits.LICENSE.txt").read_text(encoding="utf-8"), digits.__doc__ or ""):
        for credit in ("E. Alpaydin and C. Kaynak", "10.24432/C50P49", "CC BY 4.0"):
            assert credit in text
    with folder.joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as packed:
        assert {name: (packed[name].shape, packed[name].dtype.name) for name in packed} == {
            "images": ((1797, 8), "uint8"),
            "labels": ((1797,), "uint8"),
        }

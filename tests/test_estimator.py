"""The estimator: scikit-learn's own checks where it is installed, and everything that does not need it."""

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import refvlm
from refvlm.learning.estimator import NotFittedError
from refvlm.learning.rules import RULES

QUICK = {"latents": 2, "hidden": (), "epochs": 3, "batch_size": None}


def small(**options):
    return refvlm.BernoulliLVMEstimator(**(QUICK | options))


@pytest.fixture(scope="module")
def x():
    return refvlm.digits()[:90, 20:33]


def bits_of(estimator):
    return b"".join(value.tobytes() for value in estimator.model_.parameters().values())


def pytest_generate_tests(metafunc):
    """One test for every check of scikit-learn; none, and one skipped, without it."""
    if "check" in metafunc.fixturenames:
        try:
            from sklearn.utils.estimator_checks import estimator_checks_generator
        except ImportError:
            metafunc.parametrize(("estimator", "check"), [pytest.param(None, None, id="scikit-learn absent")])
            return
        methods = [small(binarize=0.5), small(binarize=0.5, method="wake-sleep"), small(binarize=0.5, method="em")]
        with warnings.catch_warnings():  # that it does not inherit from BaseEstimator, which is the point
            warnings.filterwarnings("ignore", message=".*does not inherit from")
            pairs = [(e, c) for method in methods for e, c in estimator_checks_generator(method)]
        ids = [f"{e.method}-{getattr(c, 'func', c).__name__}-{i}" for i, (e, c) in enumerate(pairs)]
        metafunc.parametrize(("estimator", "check"), pairs, ids=ids)


def test_scikit_learns_own_checks(estimator, check):
    if check is None:
        pytest.skip("scikit-learn is not installed")
    check(estimator)


def test_scores_and_means_are_the_exact_ones(x):
    estimator = small().fit(x)
    assert (estimator.score_samples(x) == refvlm.log_marginal(estimator.model_, x)).all()
    assert (estimator.transform(x) == refvlm.posterior_mean(estimator.model_, x)).all()
    assert estimator.score(x) == refvlm.log_marginal(estimator.model_, x).mean()
    assert estimator.transform(x).shape == (90, 2)
    assert estimator.get_feature_names_out().tolist() == ["z0", "z1"]
    assert (small().fit_transform(x) == estimator.transform(x)).all()


def test_fit_is_refvlm_fit(x):
    estimator = small(method="wake-sleep", random_state=4).fit(x)
    fitted = refvlm.fit(x, 2, (), "wake-sleep", epochs=3, seed=4)
    assert bits_of(estimator) == b"".join(value.tobytes() for value in fitted.model.parameters().values())
    assert estimator.history_ == fitted.history
    assert isinstance(estimator.posterior_, refvlm.AmortisedPosterior)
    assert small().fit(x).posterior_ is None


def test_the_same_random_state_gives_the_same_bits(x):
    first, again, other = (bits_of(small(random_state=seed).fit(x)) for seed in (1, 1, 2))
    assert first == again != other
    states = [np.random.RandomState(5), np.random.RandomState(5), np.random.default_rng(5), None]
    contents = [bits_of(small(random_state=state).fit(x)) for state in states]
    assert contents[0] == contents[1]
    assert len(set(contents)) == 3
    assert (small().fit(x).sample(7, 3) == small().fit(x).sample(7, 3)).all()
    assert small().fit(x).sample(7).shape == (7, 13)


@pytest.mark.parametrize("method", RULES)
def test_partial_fit_goes_on(x, method):
    estimator, scores = small(method=method, samples=2), []
    for _ in range(12):
        scores.append(estimator.partial_fit(x).score(x))
    assert scores[-1] > scores[0]
    assert len(estimator.history_) == 12
    with pytest.raises(ValueError, match="X has 12 features, but BernoulliLVMEstimator is expecting 13"):
        estimator.partial_fit(x[:, :12])
    small(batch_size=50).partial_fit(x[:8])  # fewer rows than a batch are a batch


def test_bits_are_strict_unless_there_is_a_threshold(x):
    with pytest.raises(ValueError, match=r"X: got 0.5 at row 0, column 0, wanted exactly 0 or 1"):
        small().fit(x * 0.5 + 0.5)
    shifted = small(binarize=0.25).fit(x * 0.5)
    assert bits_of(shifted) == bits_of(small().fit(x))
    assert (shifted.score_samples(x * 0.5) == small().fit(x).score_samples(x)).all()
    with pytest.raises(TypeError, match="binarize: got str"):
        small(binarize="half").fit(x)


def test_used_before_fit_it_says_so(x):
    for call in (small().transform, small().score, small().score_samples, lambda x: small().sample()):
        with pytest.raises(ValueError, match="not fitted yet; call fit first"):
            call(x)
    with pytest.raises(AttributeError):
        small().get_feature_names_out()


def test_without_scikit_learn_everything_but_its_tags_works():
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import numpy as np, pickle, refvlm\n"
        "x = refvlm.bars().images\n"
        "e = refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=2)\n"
        "del sys.modules['sklearn']\n"
        "from refvlm.learning.estimator import NotFittedError\n"
        "try:\n    e.score(x)\n    raise SystemExit('no error')\nexcept NotFittedError as error:\n    print(error)\n"
        "e.fit(x); pickle.loads(pickle.dumps(e)).set_params(latents=3).fit(x)\n"
        "print(e, 'sklearn' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "BernoulliLVMEstimator(latents=2, hidden=(), epochs=2) False" in done.stdout
    assert issubclass(NotFittedError, ValueError)


def test_parameters_can_be_read_and_set():
    estimator = small()
    assert estimator.get_params()["latents"] == 2
    assert estimator.set_params(latents=5, method="vlb") is estimator
    assert (estimator.latents, estimator.method) == (5, "vlb")
    with pytest.raises(ValueError, match="set_params: got 'depth', wanted one of latents, hidden"):
        estimator.set_params(depth=3)
    assert repr(refvlm.BernoulliLVMEstimator()) == "BernoulliLVMEstimator()"


def test_pickles_and_copies_give_the_same_bits(x):
    estimator = small(method="wake-sleep").fit(x)
    for twin in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert (twin.score_samples(x) == estimator.score_samples(x)).all()
        assert bits_of(twin.partial_fit(x)) == bits_of(copy.copy(estimator).partial_fit(x))


def test_a_sum_that_is_too_long_is_refused_by_name(x):
    estimator = small(latents=40, method="wake-sleep", epochs=1).fit(x)
    for call in (estimator.score_samples, estimator.transform):
        with pytest.raises(ValueError, match=r"2\*\*40 latents is too long; wanted fewer latents, or refvlm.log_marg"):
            call(x)


def test_it_works_in_a_pipeline_and_a_grid_search(x):
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    target = x[:, 0]
    pipeline = make_pipeline(MinMaxScaler(), small(binarize=0.5, epochs=30), LogisticRegression())
    assert pipeline.fit(x[:, 1:], target).score(x[:, 1:], target) > 0.5
    search = GridSearchCV(small(epochs=10), {"latents": [1, 3], "learning_rate": [0.01, 0.1]}, cv=3).fit(x)
    assert search.best_params_["learning_rate"] == 0.1
    assert search.best_estimator_.model_.latents in (1, 3)
    assert search.score(x) == search.best_estimator_.score(x)
    assert clone(small(latents=7)).latents == 7


def test_names_of_columns_are_kept(x):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x, columns=[f"pixel {i}" for i in range(13)])
    estimator = small().fit(frame)
    assert estimator.feature_names_in_[12] == "pixel 12"
    assert not hasattr(estimator.fit(x), "feature_names_in_")

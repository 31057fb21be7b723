"""`refvlm.fit` with the manners of scikit-learn, which it does not need: for pipelines, grid searches, pickles."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..checks import as_binary, check_choice, check_count, dense_blocks, describe, is_frame, is_sparse
from ..inference.exact import log_marginal, posterior_mean
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Bits, Floats
from .defaults import SCHEDULE
from .fit import fit
from .history import History, enumerable
from .rules import Rule, hyperparameters, hyperparameters_of, rule_of

_OUTPUTS = ("default", "pandas", "polars")

Init = TypeVar("Init", bound=Callable[..., None])


class NotFittedError(ValueError, AttributeError):
    """Used before `fit`; where scikit-learn is loaded, its own error of this name is raised instead."""


def _with_hyperparameters(init: Init) -> Init:
    """`init` with the hyperparameters of all rules in its signature, where scikit-learn and `help` look for them."""
    signature = inspect.signature(init)
    *own, _ = signature.parameters.values()
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=hyperparameter.default)
        for name, hyperparameter in hyperparameters().items()
    ]
    vars(init)["__signature__"] = signature.replace(parameters=[*own, *added])
    return init


class BernoulliLVMEstimator:
    """A Bernoulli latent variable model as a density estimator and transformer.

    binarize: None, X has to be exactly 0 or 1; or a threshold, a bit is then X > binarize. random_state: the seed of
    `fit`; None for a new one every time, or a NumPy RandomState or Generator, which is drawn from. validation: None, or
    False to learn from all rows. All other parameters are those of `refvlm.fit`. Hyperparameters that the method does
    not have are not used, so that a grid search can vary the method. An executor is no parameter, since scikit-learn
    copies parameters: to enumerate elsewhere, use `refvlm.fit(executor=)` and `refvlm.log_marginal(executor=)`.

    After fit: model_; posterior_, the q that learnt with the model, None with methods that learn the model alone;
    history_; n_features_in_, and feature_names_in_ where X has names of columns.

    >>> import refvlm
    >>> x = refvlm.bars().sample(200, np.random.default_rng(0))
    >>> estimator = refvlm.BernoulliLVMEstimator(latents=3, hidden=(), epochs=20).fit(x)
    >>> estimator.transform(x[:5]).shape, estimator.score(x) > -11.1
    ((5, 3), True)
    """

    model_: BernoulliLVM
    posterior_: Posterior | None
    history_: History
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    @_with_hyperparameters
    def __init__(
        self, latents: int | Sequence[int] = 8, hidden: Sequence[int] = (64,),
        method: str | Rule = "maximum-likelihood", *, binarize: float | None = None,
        validation: bool | None = None, encoder_hidden: Sequence[int] | None = None, activation: str = "tanh",
        epochs: int | None = None, batch_size: int | None = None, optimiser: str = "adam",
        learning_rate: float | None = None, momentum: float = 0.0, beta2: float | None = None,
        schedule: str = SCHEDULE, weight_decay: float | None = None, patience: int | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = 0, workers: int | None = None,
        **rule: Any,
    ) -> None:  # fmt: skip
        self.latents, self.hidden, self.encoder_hidden, self.activation = latents, hidden, encoder_hidden, activation
        self.method, self.epochs, self.batch_size, self.optimiser = method, epochs, batch_size, optimiser
        self.learning_rate, self.momentum, self.beta2, self.schedule = learning_rate, momentum, beta2, schedule
        self.weight_decay, self.binarize, self.random_state = weight_decay, binarize, random_state
        self.validation, self.patience = validation, patience
        self.workers = workers
        for name, hyperparameter in hyperparameters().items():
            setattr(self, name, rule.pop(name, hyperparameter.default))
        if rule:
            raise TypeError(f"{type(self).__name__}: got an unexpected argument {next(iter(rule))!r}")

    @classmethod
    def _parameters(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters by name; `deep` changes nothing, since none of them is an estimator."""
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **params: Any) -> Self:
        """Set constructor parameters. Raises ValueError for a name that is not one of them."""
        for name, value in params.items():
            if name not in self._parameters():
                raise ValueError(f"set_params: got {name!r}, wanted one of {', '.join(self._parameters())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if repr(v) != repr(defaults[k].default)]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator; only it calls this."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(sparse=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model."""
        return hasattr(self, "model_")

    def fit(self, X: object, y: object = None) -> Self:
        """Learn from X (N, L) afresh; y is not used. Raises what `refvlm.fit` raises."""
        self._learn(self._rows(X, reset=True), seed=_seed(self.random_state))
        self.calls_ = 0
        return self

    def partial_fit(self, X: object, y: object = None) -> Self:
        """Go on for one epoch over X, from random parameters if there are none yet; the optimiser starts anew.

        All of X is learnt from, at the learning rate as it is.
        """
        begun = hasattr(self, "model_")
        rows = self._rows(X, reset=not begun)
        size = None if self.batch_size is None else min(check_count("batch_size", self.batch_size, 1), len(rows))
        calls = self.calls_ + 1 if begun else 0
        history = self.history_ if begun else ()
        start = (self.model_, self.posterior_) if begun else None
        self._learn(
            rows, epochs=1, batch_size=size, start=start, seed=_seed(self.random_state) + calls, validation=False,
            schedule="constant", patience=None,
        )  # fmt: skip
        self.history_ = History([*history, *self.history_])
        self.calls_ = calls
        return self

    def _learn(self, rows: Bits, **options: Any) -> None:
        rule = rule_of(self.method, {name: getattr(self, name) for name in hyperparameters_of(self.method)})
        others = {"method", "binarize", "random_state", *hyperparameters()}
        parameters = {name: value for name, value in self.get_params().items() if name not in others}
        kind = "amortised" if rule.learns_posterior else "none"
        self.model_, self.posterior_, self.history_ = fit(rows, method=rule, posterior=kind, **(parameters | options))

    def score_samples(self, X: object) -> Floats:
        """Exact log p(x) of every row, (N,) nats."""
        return log_marginal(self._exact("score_samples"), self._rows(X), workers=self.workers)

    def score(self, X: object, y: object = None) -> float:
        """The mean of log p(x) over the rows, nats: higher is better."""
        return float(self.score_samples(X).mean())

    def transform(self, X: object) -> Any:
        """The exact posterior means E[z | x], (N, K); of a deep model, of the layer next to x.

        An array, or a data frame where `set_output` asked for one.
        """
        means = posterior_mean(self._exact("transform"), self._rows(X), workers=self.workers)
        kind = self._output_kind()
        if kind == "default":
            return means
        names = list(self.get_feature_names_out())
        if kind == "polars":
            return importlib.import_module("polars").DataFrame(means, schema=names)
        return importlib.import_module("pandas").DataFrame(means, index=getattr(X, "index", None), columns=names)

    def set_output(self, *, transform: str | None = None) -> Self:
        """What `transform` returns: "default", an array; "pandas" or "polars", a data frame; None changes nothing."""
        if transform is not None:
            check_choice("transform", transform, _OUTPUTS)
            self._sklearn_output_config = {"transform": transform}  # the name under which scikit-learn's clone keeps it
        return self

    def _output_kind(self) -> str:
        """As `set_output` said, or else scikit-learn's own configuration."""
        chosen = getattr(self, "_sklearn_output_config", {}).get("transform")
        if chosen is None and "sklearn" in sys.modules:
            chosen = sys.modules["sklearn"].get_config().get("transform_output")
        return str(chosen or "default")

    def fit_transform(self, X: object, y: object = None) -> Any:
        """`fit`, then `transform` of the same rows."""
        return self.fit(X, y).transform(X)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Bits:
        """Rows drawn from the model, (n_samples, L) of 0 and 1; random_state as in the constructor."""
        model = self._fitted()
        return model.sample(check_count("n_samples", n_samples, 1), np.random.default_rng(_seed(random_state)))[0]

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Names of what `transform` returns: z0, z1, ..."""
        return np.array([f"z{k}" for k in range(self._fitted().latents)], dtype=object)

    def _fitted(self) -> BernoulliLVM:
        if not hasattr(self, "model_"):
            message = f"{type(self).__name__}: not fitted yet; call fit first"
            if "sklearn" in sys.modules:
                from sklearn.exceptions import NotFittedError as theirs

                raise theirs(message)
            raise NotFittedError(message)
        return self.model_

    def _exact(self, name: str) -> BernoulliLVM:
        model = self._fitted()
        if not enumerable(model):
            raise ValueError(
                f"{name}: the sum over 2**{model.latents} latents is too long; wanted fewer latents, or "
                "refvlm.log_marginal_estimate with model_ and posterior_"
            )
        return model

    def _rows(self, X: Any, reset: bool = False) -> Bits:
        """X as zeros and ones, its columns checked against those of fit, or remembered."""
        if not reset:
            self._fitted()
        names = _names(X)
        array = X if is_sparse(X) else _numbers(X)
        if array.ndim != 2:
            raise ValueError(
                f"X: expected 2D array, got {array.ndim}D array instead, shape {array.shape}. Reshape your data: "
                "X[None] for one row, X[:, None] for one column"
            )
        for axis, what in enumerate(("sample", "feature")):
            if array.shape[axis] == 0:
                raise ValueError(
                    f"X: found array with 0 {what}(s) (shape={array.shape}) while a minimum of 1 is required."
                )
        if reset:
            self.n_features_in_ = array.shape[1]
            if names is not None:
                self.feature_names_in_ = names
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        else:
            self._check_names(names)
        if array.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {array.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        if self.binarize is None:
            return as_binary("X", array, None)
        if isinstance(self.binarize, bool) or not isinstance(self.binarize, (int, float, np.integer, np.floating)):
            raise TypeError(f"binarize: got {describe(self.binarize)}, wanted None or a threshold")
        if not is_sparse(array):
            return (array > self.binarize).astype(np.uint8)
        bits = np.empty(array.shape, np.uint8)
        for row, block in dense_blocks("X", array):
            bits[row : row + len(block)] = _numbers(block) > self.binarize
        return bits

    def _check_names(self, names: NDArray[np.object_] | None) -> None:
        """The columns' names against those of fit, as scikit-learn has it: other ones are refused, none is said."""
        fitted = getattr(self, "feature_names_in_", None)
        kind = type(self).__name__
        if (fitted is None) != (names is None):
            how = "X does not have valid feature names, but" if names is None else "X has feature names, but"
            without = "with" if names is None else "without"
            warnings.warn(f"{how} {kind} was fitted {without} feature names", UserWarning, stacklevel=4)
        elif fitted is not None and names is not None and list(fitted) != list(names):
            unseen, absent = sorted(set(names) - set(fitted)), sorted(set(fitted) - set(names))
            said = "The feature names should match those that were passed during fit."
            if unseen:
                said += f" Feature names unseen at fit time: {', '.join(unseen[:5])}."
            if absent:
                said += f" Feature names seen at fit time, yet now missing: {', '.join(absent[:5])}."
            if not unseen and not absent:
                said += " Feature names must be in the same order as they were in fit."
            raise ValueError(said)


def _numbers(X: Any) -> NDArray[Any]:
    """X as an array of finite real numbers."""
    if (isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X)) or (is_frame(X) and np.asarray(X.isna()).any()):
        raise ValueError("X: contains masked values or NA, as good as NaN; wanted none; drop or fill such rows first")
    array = np.asarray(X)
    if array.dtype.kind == "c":
        raise ValueError("X: Complex data not supported; wanted real numbers")
    if array.dtype.kind not in "buif":
        try:
            array = array.astype(np.float64)
        except TypeError as error:
            raise TypeError(f"X: argument must be a string or a real number, all through ({error})") from None
        except ValueError as error:
            raise ValueError(f"X: wanted numbers ({error})") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("X: contains NaN or inf (infinity), wanted finite numbers; drop or fill such rows first")
    return array


def _names(X: Any) -> NDArray[np.object_] | None:
    """The names of the columns of a data frame, if all are strings; a TypeError where only some are."""
    columns = getattr(X, "columns", None)
    if columns is None:
        return None
    names = np.asarray(columns, dtype=object)
    strings = [isinstance(name, str) for name in names]
    if any(strings) and not all(strings):
        kinds = sorted({type(name).__qualname__ for name in names})
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input has "
            f"{kinds} as feature name / column name types; convert them with X.columns = X.columns.astype(str)"
        )
    return names if any(strings) else None


def _seed(state: Any) -> int:
    """A seed for `refvlm.fit` from whatever scikit-learn users pass."""
    if state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(state, np.random.RandomState):
        return int(state.randint(1 << 31))
    if isinstance(state, np.random.Generator):
        return int(state.integers(1 << 31))
    return check_count("random_state", state, 0)

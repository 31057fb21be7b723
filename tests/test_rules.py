"""The table of learning rules: what a rule declares is what it does, and what `fit` and its two other faces offer."""

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import binary, network, shallow

import refvlm
from refvlm.cli import main
from refvlm.learning.batches import Batch
from refvlm.learning.history import Record
from refvlm.learning.machine import Machine
from refvlm.learning.rules import (
    RULES,
    ExpectationMaximisation,
    MaximumLikelihood,
    ReweightedWakeSleep,
    Variational,
    Vimco,
    WakeSleep,
    hyperparameters,
    methods,
)

VARIANTS = [*(rule() for rule in RULES.values()), Variational(gradient="score-function", samples=3)]


def bits_of(fitted):
    arrays = [*fitted.model.parameters().values(), *fitted.posterior.parameters().values()]
    return b"".join(value.tobytes() for value in arrays)


@pytest.fixture(scope="module")
def x():
    return refvlm.digits()[:60, 20:31]


@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_a_rule_does_what_it_declares(rule):
    rng = np.random.default_rng(0)
    q = refvlm.AmortisedPosterior(network([5, 4, 3], rng)) if rule.learns_posterior else None
    machine, batch = Machine(shallow(3, (4,), 5, rng), q), Batch(binary(7, 5, rng), np.full(7, 1 / 7))
    before, state = machine.vector.copy(), str(rng.bit_generator.state)
    parts, phases = rule.parts(machine), list(rule.directions(machine, batch, rng, 1))
    assert [len(direction) for direction, _ in phases] == [part.stop - part.start for part in parts]
    assert np.concatenate([np.arange(len(before))[part] for part in parts]).tolist() == list(range(len(before)))
    assert {name for _, numbers in phases for name in numbers} == set(rule.records) <= set(Record._fields)
    assert rule.enumerates == (str(rng.bit_generator.state) == state), "what enumerates draws nothing"
    assert (machine.vector == before).all()
    assert {dataclasses.replace(rule)} == {rule}  # a value: equal, hashable, frozen


def test_the_table_has_every_rule_under_its_name():
    assert [rule.name for rule in RULES.values()] == list(RULES)
    assert methods(True) == "'em', 'maximum-likelihood', 'vlb'"
    sampled = {"'reweighted-wake-sleep'", "'vlb' with gradient='score-function'", "'vimco'", "'wake-sleep'"}
    assert set(methods(False).split(", ")) == sampled


def test_a_hyperparameter_means_the_same_in_every_rule():
    for name, option in hyperparameters().items():
        fields = [f for rule in RULES.values() for f in dataclasses.fields(rule) if f.name == name]
        assert len(fields) == len(option.methods)
        assert {(f.type, f.default, f.metadata["help"], f.metadata["choices"]) for f in fields} == {
            (fields[0].type, option.default, option.help, option.choices)
        }
        assert name not in inspect.signature(refvlm.fit).parameters
        assert name not in Record._fields


@pytest.mark.parametrize(
    ("method", "options", "rule"),
    [
        ("maximum-likelihood", {}, MaximumLikelihood()),
        ("em", {}, ExpectationMaximisation()),
        ("vlb", {"gradient": "score-function", "samples": 3}, Variational("score-function", 3)),
        ("wake-sleep", {}, WakeSleep()),
        ("reweighted-wake-sleep", {"samples": 2, "wake_phi": 0.25}, ReweightedWakeSleep(2, wake_phi=0.25)),
        ("vimco", {"samples": 4}, Vimco(samples=4)),
    ],
)
def test_fit_takes_a_rule_or_its_name(x, method, options, rule):
    common = {"latents": 2, "hidden": (), "epochs": 2}
    by_name, by_rule = refvlm.fit(x, method=method, **options, **common), refvlm.fit(x, method=rule, **common)
    assert bits_of(by_name) == bits_of(by_rule)
    assert by_name.history == by_rule.history
    if options:
        assert bits_of(by_name) != bits_of(refvlm.fit(x, method=method, **common))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"samples": 3}, ValueError, "samples: got int 3, which method 'maximum-likelihood' does not take; wanted no"),
        ({"method": "vlb", "wake_phi": 0.5}, ValueError, "wanted gradient, samples; wake_phi goes with reweighted"),
        ({"method": WakeSleep(), "samples": 3}, ValueError, r"samples: got int 3 beside a rule; .* in WakeSleep\(\)"),
        ({"method": WakeSleep}, ValueError, "method: got ABCMeta .*, wanted one of 'em', 'maximum-likelihood'"),
        ({"epoch": 3}, TypeError, "fit: got an unexpected argument 'epoch'"),
        ({"method": "vlb", "gradient": "score-function", "samples": 1}, ValueError, "samples: got 1, wanted at least"),
        ({"method": "reweighted-wake-sleep", "samples": 0}, ValueError, "samples: got 0, wanted at least 1"),
        ({"method": "reweighted-wake-sleep", "samples": 2.5}, TypeError, "samples: got float 2.5, wanted an integer"),
    ],
)
def test_hyperparameters_that_a_rule_does_not_take_are_refused(x, options, error, message):
    with pytest.raises(error, match=message):
        refvlm.fit(x, 2, (), **options)


@dataclasses.dataclass(frozen=True)
class Lazy(MaximumLikelihood):
    """A rule of somebody else's: maximum likelihood at a fraction of its pace."""

    name = "lazy"
    pace: float = 0.5

    def directions(self, machine, batch, rng, workers):
        for direction, numbers in super().directions(machine, batch, rng, workers):
            yield self.pace * direction, numbers


def test_a_rule_from_outside_learns_and_resumes(x, tmp_path):
    options = {"latents": 2, "hidden": (), "epochs": 3, "optimiser": "sgd", "posterior": "none"}
    slow = refvlm.fit(x, method=Lazy(), learning_rate=0.5, checkpoint=tmp_path / "c", **options)
    plain = refvlm.fit(x, learning_rate=0.25, **options)
    assert [r.log_px for r in slow.history] == pytest.approx([r.log_px for r in plain.history], rel=1e-12)
    assert slow.history[-1].objective is not None
    again = refvlm.fit(x, method=Lazy(), learning_rate=0.5, checkpoint=tmp_path / "c", resume=True, **options)
    assert again.history == slow.history
    with pytest.raises(ValueError, match=r"its pace is float 0.5, and now it is float 0.25"):
        refvlm.fit(x, method=Lazy(0.25), learning_rate=0.5, checkpoint=tmp_path / "c", resume=True, **options)
    with pytest.raises(ValueError, match=r"its method is str 'lazy', and now it is str 'maximum-likelihood'"):
        refvlm.fit(x, learning_rate=0.5, checkpoint=tmp_path / "c", resume=True, **options)


def test_the_estimator_has_the_hyperparameters_of_all_rules(x):
    estimator = refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=2, samples=3, wake_phi=0.25)
    signature = inspect.signature(refvlm.BernoulliLVMEstimator)
    for name, option in hyperparameters().items():
        assert signature.parameters[name].default == option.default
    assert {"samples": 3, "wake_phi": 0.25, "gradient": "exact"}.items() <= estimator.get_params().items()
    assert "samples=3" in repr(estimator)
    estimator.set_params(method="reweighted-wake-sleep", samples=2).fit(x)
    wanted = refvlm.fit(x, 2, (), ReweightedWakeSleep(2, 0.25), epochs=2)
    assert estimator.history_ == wanted.history
    assert estimator.set_params(method=ReweightedWakeSleep(2, 0.25), samples=7).fit(x).history_ == wanted.history
    assert estimator.set_params(method="em").fit(x).posterior_ is None  # which takes none of them
    with pytest.raises(ValueError, match="samples: got 1, wanted at least 2"):
        estimator.set_params(method="vlb", gradient="score-function", samples=1).fit(x)
    with pytest.raises(TypeError, match="BernoulliLVMEstimator: got an unexpected argument 'sample'"):
        refvlm.BernoulliLVMEstimator(sample=3)


def test_the_command_line_offers_every_rule_and_hyperparameter(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, option in hyperparameters().items():
        assert f"--{name.replace('_', '-')}" in text
        assert f"{option.help} (with {', '.join(option.methods)}; default: {option.default})" in text
    assert all(name in text for name in RULES)


def test_help_for_fit_loads_neither_numba_nor_scipy():
    program = (
        "import sys\nfrom refvlm.cli import main\ntry:\n    main(['fit', '--help'])\n"
        "except SystemExit:\n    print(sorted({'numba', 'scipy'} & set(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr == "[]\n"


def test_the_command_line_passes_hyperparameters_on(x, tmp_path, capsys):
    np.save(tmp_path / "x.npy", x)
    command = ["fit", str(tmp_path / "x.npy"), "-o", str(tmp_path / "m.npz"), "--latents", "2", "--hidden", "none"]
    command += ["--epochs", "2", "--method", "reweighted-wake-sleep", "--samples", "2", "--wake-phi", "0.25"]
    assert main(command) == 0
    model, posterior = refvlm.load(tmp_path / "m.npz")
    wanted = refvlm.fit(x, 2, (), ReweightedWakeSleep(2, 0.25), epochs=2)
    assert bits_of(refvlm.Fit(model, posterior, ())) == bits_of(wanted)
    capsys.readouterr()
    assert main([*command, "--method", "em"]) == 65
    assert "samples: got int 2, which method 'em' does not take" in capsys.readouterr().err


def test_the_page_lists_every_rule_and_the_module_explains_every_argument():
    page = (Path(refvlm.__file__).parent / "learning" / "README.md").read_text()
    for name, rule in RULES.items():
        own = "".join(line for line in page.splitlines() if line.startswith(f'| `"{name}"'))
        assert own, name
        assert all(re.search(rf"`{field.name}\b", own) for field in dataclasses.fields(rule))
    explained = sys.modules["refvlm.learning.fit"].__doc__
    for name in inspect.signature(refvlm.fit).parameters:
        assert name == "hyperparameters" or re.search(rf"\b{name}\b", explained), name

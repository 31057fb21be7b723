"""Weights from PyTorch: modules, imitated by classes with the same attributes, and state dicts. test_frameworks.py asks
the real ones."""

import itertools
import re
import warnings

import numpy as np
import pytest

import refvlm


def rng():
    return np.random.default_rng(3)


class Module:
    """What from_torch asks of a torch.nn.Module: children by name, and a state dict of tensors."""

    def __init__(self, arrays=None, **children):
        self.arrays = arrays or {}
        self._modules = children

    def state_dict(self):
        state = dict(self.arrays)
        for name, child in self._modules.items():
            if child is not None:
                state |= {f"{name}.{key}": value for key, value in child.state_dict().items()}
        return state


class Sequential(Module):
    def __init__(self, *modules):
        super().__init__(**{str(number): module for number, module in enumerate(modules)})

    def forward(self, x):
        raise AssertionError("never called")


class Linear(Module):
    def __init__(self, fan_in, fan_out, bias=True):
        self.in_features, self.out_features = fan_in, fan_out
        arrays = {"weight": rng().normal(size=(fan_out, fan_in))}
        super().__init__(arrays | ({"bias": rng().normal(size=fan_out)} if bias else {}))


def a(kind, **attributes):
    """A module of that class without parameters."""
    module = type(kind, (Module,), {})()
    vars(module).update(attributes)
    return module


def decoder(**children):
    """A module with a forward of its own."""
    return type("Decoder", (Module,), {"forward": lambda self, z: z})(**children)


ACTIVATIONS = {
    "tanh": a("Tanh"), "relu": a("ReLU", inplace=True), "sigmoid": a("Sigmoid"),
    "leaky_relu": a("LeakyReLU", negative_slope=0.01), "elu": a("ELU", alpha=1.0),
    "softplus": a("Softplus", beta=1.0, threshold=20.0), "silu": a("SiLU"),
}  # fmt: skip
FORMULAS = {
    "tanh": np.tanh, "relu": lambda a: np.maximum(a, 0), "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "leaky_relu": lambda a: np.where(a > 0, a, 0.01 * a), "elu": lambda a: np.where(a > 0, a, np.exp(a) - 1),
    "softplus": lambda a: np.log(1 + np.exp(a)), "silu": lambda a: a / (1 + np.exp(-a)),
}  # fmt: skip


def refused(message, *arguments, error=ValueError, **named):
    """The call is refused in one line with this, literal, part of the message."""
    with pytest.raises(error, match=re.escape(message)) as caught:
        refvlm.from_torch(*arguments, **named)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_modules_activation_is_read_and_its_logits_are_those_of_the_formula(activation):
    first, second, third = Linear(3, 5), Linear(5, 2, bias=False), Linear(2, 4)
    shared = ACTIVATIONS[activation]
    mlp = refvlm.from_torch(Sequential(first, shared, a("Dropout", p=0.5), second, shared, a("Identity"), third))
    assert (mlp.sizes, mlp.activation) == ((3, 5, 2, 4), activation)
    f, z = FORMULAS[activation], rng().integers(0, 2, size=(7, 3))
    h = f(z @ first.arrays["weight"].T + first.arrays["bias"])
    h = f(h @ second.arrays["weight"].T)
    expected = h @ third.arrays["weight"].T + third.arrays["bias"]
    np.testing.assert_allclose(mlp.forward(z)[0], expected, rtol=1e-13, atol=1e-14)  # a few roundings


def test_sequentials_in_sequentials_are_walked_in_order():
    block = Sequential(Linear(3, 5), a("SiLU"))
    mlp = refvlm.from_torch(Sequential(block, Sequential(Sequential(Linear(5, 2)), a("SiLU")), Linear(2, 4)))
    assert (mlp.sizes, mlp.activation) == ((3, 5, 2, 4), "silu")


def test_a_final_sigmoid_is_the_link_left_out_and_said_where_the_call_stands():
    net = Sequential(Linear(3, 5), a("Sigmoid"), Linear(5, 4), a("Sigmoid"))
    said = "module_or_state_dict: the last Sigmoid '3' is left out: it is the Bernoulli link"
    with pytest.warns(UserWarning, match=said) as caught:
        mlp = refvlm.from_torch(net)
    assert (mlp.sizes, mlp.activation) == ((3, 5, 4), "sigmoid")
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="the last Sigmoid '1'"):
        assert refvlm.from_torch(Sequential(Linear(3, 4), a("Sigmoid"))).sizes == (3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refvlm.from_torch(Sequential(Linear(3, 5), a("Sigmoid"), Linear(5, 4)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (a("LeakyReLU", negative_slope=0.2), "activation: got LeakyReLU '1' with negative_slope=0.2, wanted 0.01"),
        (a("ELU", alpha=0.5), "activation: got ELU '1' with alpha=0.5, wanted 1"),
        (a("Softplus", beta=2, threshold=20), "activation: got Softplus '1' with beta=2, wanted 1"),
        (a("Softplus", beta=1, threshold=5), "activation: got Softplus '1' with threshold=5, wanted at least 20"),
        (a("GELU"), "got GELU '1', wanted linear layers with Tanh, Sigmoid, ReLU"),
        (a("PReLU"), "got PReLU '1'"),
        (a("BatchNorm1d"), "got BatchNorm1d '1'"),
        (a("LayerNorm"), "got LayerNorm '1'"),
        (a("Conv2d"), "got Conv2d '1'"),
    ],
)
def test_what_no_mlp_here_has_is_refused_by_name(module, message):
    refused(message, Sequential(Linear(3, 5), module, Linear(5, 4)))


def test_a_softplus_with_a_higher_threshold_is_nearer_to_ours():
    net = Sequential(Linear(3, 5), a("Softplus", beta=1, threshold=30.0), Linear(5, 4))
    assert refvlm.from_torch(net).activation == "softplus"


def test_orders_of_modules_that_make_no_mlp_are_refused():
    one, two, three = Linear(3, 5), Linear(5, 2), Linear(2, 4)
    refused(
        "activation: got Tanh '1' and ReLU '3' in one network, wanted the same activation",
        Sequential(one, a("Tanh"), two, a("ReLU"), three),
    )
    refused(
        "got the layers '0' (3-5) and '1' (5-2), which follow each other without an activation, wanted one between "
        "them; multiply the two weights into one layer",
        Sequential(one, two, a("ReLU"), three),
    )
    refused("got the layers '0' (3-5) and '2' (5-2), which follow", Sequential(one, a("Dropout"), two))
    refused("got ReLU '1' and Sigmoid '2' between the layers", Sequential(one, a("ReLU"), a("Sigmoid"), two))
    refused("got ReLU '1' after the last layer, wanted logits", Sequential(one, a("ReLU")))
    refused("got ReLU '1' and Sigmoid '2' after the last layer", Sequential(one, a("ReLU"), a("Sigmoid")))
    refused("begins with ReLU '0'", Sequential(a("ReLU"), one))
    refused("got no layers, wanted at least one", Sequential())
    refused("got no layers, wanted at least one", Sequential(a("ReLU")))
    refused("activation: got 'tanh' for a network with ReLU '1'", Sequential(one, a("ReLU"), two), "tanh")
    refused("activation: got str 'gelu', wanted one of 'tanh'", Sequential(one, a("ReLU"), two), "gelu")
    assert refvlm.from_torch(Sequential(one, a("ReLU"), two), "relu").activation == "relu"


def test_what_a_forward_of_its_own_does_has_to_be_said():
    net = decoder(fc1=Linear(3, 5), fc2=Linear(5, 4), unused=None)
    message = "activation: got None for the 2 layers 'fc1' (3-5), 'fc2' (5-4), wanted what stands between them, one of"
    refused(message, net)
    refused("is in a forward method, which cannot be read", net)
    mlp = refvlm.from_torch(net, "relu")
    assert (mlp.sizes, mlp.activation) == ((3, 5, 4), "relu")
    assert refvlm.from_torch(decoder(fc=Linear(3, 4))).sizes == (3, 4)

    net = decoder(fc1=Linear(3, 5), act=a("ReLU"), fc2=Linear(5, 4))
    refused("of activations it holds ReLU 'act'", net)
    refused("activation: got 'tanh' for a network with ReLU 'act'", net, "tanh")
    assert refvlm.from_torch(net, "relu").activation == "relu"
    refused("got ReLU 'act' beside the single layer 'fc' (3-4)", decoder(fc=Linear(3, 4), act=a("ReLU")))
    with pytest.warns(UserWarning, match="the last Sigmoid 'out'"):
        refvlm.from_torch(decoder(fc1=Linear(3, 5), fc2=Linear(5, 4), act=a("ReLU"), out=a("Sigmoid")), "relu")


def test_a_forward_of_its_own_within_a_sequential_hides_what_is_around_it():
    """A block may apply an activation in its forward: two blocks in a row are no two linear layers in a row."""
    net = Sequential(decoder(fc=Linear(3, 5)), decoder(fc=Linear(5, 4)))
    refused("activation: got None for the 2 layers '0.fc' (3-5), '1.fc' (5-4)", net)
    assert refvlm.from_torch(net, "elu").activation == "elu"
    for net in (
        Sequential(Linear(3, 5), decoder(fc=Linear(5, 4))),
        Sequential(decoder(fc=Linear(3, 5)), Linear(5, 4)),
    ):
        refused("activation: got None for the 2 layers", net)
    overridden = type("Net", (Sequential,), {"forward": lambda self, x: x})
    refused("activation: got None", overridden(Linear(3, 5), a("ReLU"), Linear(5, 4)))
    inherited = type("Net", (Sequential,), {})
    assert refvlm.from_torch(inherited(Linear(3, 5), a("ReLU"), Linear(5, 4))).activation == "relu"


def test_a_decoder_that_only_holds_a_sequential_is_read():
    net = decoder(net=Sequential(Linear(3, 5), a("SiLU"), Linear(5, 4)))
    assert refvlm.from_torch(net).activation == "silu"


def autoencoder():
    encoder = Sequential(Linear(4, 6), a("Tanh"), Linear(6, 3))
    return decoder(
        encoder=encoder, decoder=Sequential(Linear(3, 5), a("SiLU"), Linear(5, 4)), loss=a("BCELoss"), noise=a("Noise")
    )


@pytest.mark.parametrize("prefix", ["decoder.", "decoder"])
def test_prefix_takes_a_part_of_a_module_or_a_state_dict(prefix):
    whole = autoencoder()
    mlp = refvlm.from_torch(whole, prefix=prefix)
    assert (mlp.sizes, mlp.activation) == ((3, 5, 4), "silu")
    again = refvlm.from_torch(whole.state_dict(), "silu", prefix=prefix)
    assert again.sizes == mlp.sizes
    for got, expected in zip(again.weights, mlp.weights, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_prefixes_that_name_nothing_or_too_much_are_refused():
    whole = autoencoder()
    refused(
        "prefix: got 'dec.', with which no name in module_or_state_dict begins; wanted one of 'encoder.'",
        whole,
        prefix="dec.",
    )
    refused("prefix: got int 3, wanted the beginning of names", whole, prefix=3, error=TypeError)
    state = whole.state_dict()
    refused("got several networks, 'encoder.', 'decoder.', wanted one; pass prefix='decoder.'", state, "tanh")
    refused(
        "got several networks, 'encoder.', 'decoder', wanted one",
        {**state_of([4, 6, 3], "encoder.#"), "decoder.weight": np.ones((4, 3))},
        "tanh",
    )
    del whole._modules["loss"], whole._modules["noise"]
    refused("got several networks", whole, "tanh")
    refused("got BCELoss 'loss'", autoencoder())
    whole.arrays["logits"] = np.zeros(3)
    refused("got the parameter 'logits', which belongs to no layer known here", whole)
    assert refvlm.from_torch(whole, prefix="decoder.").sizes == (3, 5, 4)


def state_of(widths, name, bias=True):
    """A state dict of linear layers; '#' in the name is 0, 2, 4, ...."""
    state = {}
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        layer = name.replace("#", str(2 * number))
        state[f"{layer}.weight"] = rng().normal(size=(fan_out, fan_in)) + number
        if bias:
            state[f"{layer}.bias"] = rng().normal(size=fan_out) + number
    return state


def test_state_dicts_are_transposed_and_taken_in_the_order_of_their_numbers():
    w0, w1, b0, b1 = rng().normal(size=(3, 5)), rng().normal(size=(5, 2)), rng().normal(size=5), rng().normal(size=2)
    state = {"2.weight": w1.T, "2.bias": b1, "0.weight": w0.T, "0.bias": b0}
    mlp = refvlm.from_torch(state, activation="silu")
    assert mlp.activation == "silu"
    for got, expected in zip((*mlp.weights, *mlp.biases), (w0, w1, b0, b1), strict=True):
        np.testing.assert_array_equal(got, expected)
    many = {f"{i}.weight": np.eye(3) + i for i in (10, 2, 0)}
    assert [int(w[0, 0]) - 1 for w in refvlm.from_torch(many, "tanh").weights] == [0, 2, 10]
    assert (refvlm.from_torch(many, "tanh").biases[0] == 0).all()


@pytest.mark.parametrize("name", ["#", "net.#", "fc#", "blocks.#.linear"])
def test_layers_have_any_names(name):
    state = state_of([3, 5, 2, 4], name)
    mlp = refvlm.from_torch(state, "relu")
    assert mlp.sizes == (3, 5, 2, 4)
    np.testing.assert_array_equal(mlp.biases[2], state[name.replace("#", "4") + ".bias"])


def first(*names, width=3):
    """Square layers that only their weights tell apart: 1, 2, ... in the first one's order."""
    return {f"{name}.weight": np.full((width, width), number + 1.0) for number, name in enumerate(names)}


def order(mlp):
    return [int(w[0, 0]) for w in mlp.weights]


def test_the_order_is_that_of_the_dict_unless_numbers_or_sorting_belie_it():
    assert order(refvlm.from_torch(first("inp", "hid", "out"), "relu")) == [1, 2, 3]
    assert order(refvlm.from_torch(first("fc1", "fc10", "fc2"), "relu")) == [1, 3, 2]
    # As safetensors.torch.load_file gives it back: "bias" before "weight", so the order says nothing.
    names = {f"{name}.{leaf}": 0 for name in ("hid", "inp", "out") for leaf in ("bias", "weight")}
    given = first("hid", "inp", "out") | {f"{name}.bias": np.zeros(3) for name in ("hid", "inp", "out")}
    ordered = {name: given[name] for name in names}
    message = "got the layers 'hid' (3-3), 'inp' (3-3), 'out' (3-3), which fit together in several orders"
    refused(message, ordered, "relu")
    refused("pass layers=[...] with the names in the order", ordered, "relu")
    assert order(refvlm.from_torch(ordered, "relu", layers=["inp", "hid", "out"])) == [2, 1, 3]
    widths = {
        "hid.bias": np.zeros(5),
        "hid.weight": np.ones((5, 2)),
        "inp.bias": np.zeros(2),
        "inp.weight": np.ones((2, 3)),
    }
    assert refvlm.from_torch(widths, "relu").sizes == (3, 2, 5)


def test_layers_that_do_not_follow_on_from_each_other_are_refused_by_name():
    state = {"a.weight": np.ones((5, 3)), "b.weight": np.ones((4, 2))}
    refused(
        "got the layer 'a' (3-5) and after it 'b' (2-4), wanted that to take 5 inputs; pass layers=[...]", state, "elu"
    )
    refused("in no order does each take what the one before it gives", {"b.bias": np.ones(4), **state}, "elu")
    refused(
        "got a bias of shape (3,) for the layer 'a' (3-5), wanted (5,)",
        {"a.weight": np.ones((5, 3)), "a.bias": np.ones(3)},
    )


def test_layers_overrides_the_order_and_leaves_out_the_rest():
    state = state_of([3, 5, 2, 4], "fc#") | {"norm.weight": np.ones(5), "norm.running_mean": np.ones(5)}
    mlp = refvlm.from_torch(state, "elu", layers=["fc0", "fc2"])
    assert mlp.sizes == (3, 5, 2)
    refused("activation: got None for the 2 layers", state, layers=["fc0", "fc2"])
    refused(
        "layers: got str 'fc9', which is not in module_or_state_dict; wanted some of 'fc0', 'fc2', 'fc4'",
        state,
        "elu",
        layers=["fc9"],
    )
    refused("layers: got str 'fc0', wanted a list of names", state, "elu", layers="fc0", error=TypeError)
    refused("layers: got list [], wanted a list of names", state, "elu", layers=[], error=TypeError)
    whole = autoencoder()
    assert refvlm.from_torch(whole, "silu", layers=["decoder.0", "decoder.2"]).sizes == (3, 5, 4)
    assert refvlm.from_torch(whole, "silu", prefix="decoder.", layers=["0", "2"]).sizes == (3, 5, 4)
    refused("with layers= it is not read", whole, layers=["decoder.0", "decoder.2"])


def test_numbers_in_a_row_mean_no_activation_between():
    for prefix in ("", "net."):
        state = {f"{prefix}0.weight": np.ones((4, 3)), f"{prefix}1.weight": np.ones((2, 4))}
        message = f"got the layers '{prefix}0' and '{prefix}1', which follow each other without an activation"
        refused(message, state, "tanh")
        refused("of a ModuleList, pass layers=[...]", state, "tanh")
        assert refvlm.from_torch(state, "tanh", layers=[f"{prefix}0", f"{prefix}1"]).sizes == (3, 4, 2)
    modules = type("ModuleList", (Module,), {})(**{"0": Linear(3, 5), "1": Linear(5, 4)})
    assert refvlm.from_torch(decoder(layers=modules), "relu").sizes == (3, 5, 4)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_of_data_parallel_and_compile_are_stripped(wrapper):
    state = {wrapper + name: value for name, value in state_of([3, 5, 4], "#").items()}
    assert refvlm.from_torch(state, "relu").sizes == (3, 5, 4)
    whole = {wrapper + name: value for name, value in autoencoder().state_dict().items()}
    for prefix in ("decoder.", wrapper + "decoder."):
        assert refvlm.from_torch(whole, "relu", prefix=prefix).sizes == (3, 5, 4)
    inner = {f"decoder.{name}": value for name, value in state.items()}
    assert refvlm.from_torch(inner, "relu", prefix="decoder.", layers=["0", "2"]).sizes == (3, 5, 4)


@pytest.mark.parametrize(("kind", "name"), [("DataParallel", "module"), ("OptimizedModule", "_orig_mod")])
def test_wrapped_modules_are_read_through(kind, name):
    net = Sequential(Linear(3, 5), a("SiLU"), Linear(5, 4))
    wrapped = type(kind, (Module,), {"forward": None})(**{name: net})
    assert refvlm.from_torch(wrapped).activation == "silu"
    begin = type(kind, (Module,), {"forward": None})(**{name: Sequential(Linear(3, 5), a("SiLU"))})
    assert refvlm.from_torch(Sequential(begin, Linear(5, 4))).activation == "silu"
    wrapped = type(kind, (Module,), {"forward": None})(**{name: autoencoder()})
    assert refvlm.from_torch(wrapped, prefix="decoder.").activation == "silu"
    assert refvlm.from_torch(wrapped, prefix=f"{name}.decoder.").activation == "silu"


def test_a_state_dict_does_not_name_the_activation():
    state = state_of([3, 5, 4], "#")
    refused(
        "activation: got None for the 2 layers '0' (3-5), '2' (5-4), wanted what stands between them, one of 'tanh', "
        "'relu', 'sigmoid', 'leaky_relu', 'elu', 'softplus', 'silu'; a state dict does not say it",
        state,
    )
    refused("activation: got str 'gelu', wanted one of 'tanh'", state, "gelu")
    single = {"weight": np.ones((4, 3)), "bias": np.zeros(4)}
    assert refvlm.from_torch(single).sizes == refvlm.from_torch({"fc.weight": np.ones((4, 3))}).sizes == (3, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"1.weight": np.ones(5), "1.bias": np.ones(5)}, "got '1.weight' of shape (5,), which belongs to a LayerNorm"),
        ({"1.weight": np.ones(1)}, "got '1.weight' of shape (1,), which belongs to a PReLU"),
        (
            {"1.weight": np.ones(5), "1.bias": np.ones(5), "1.running_mean": np.ones(5)},
            "got '1.running_mean', which belongs to a BatchNorm: fold it into the Linear layer beside it",
        ),
        ({"1.num_batches_tracked": np.array(7)}, "got '1.num_batches_tracked', which belongs to a BatchNorm"),
        ({"1.weight": np.array(0.5)}, "got '1.weight' of shape (), which belongs to no layer known here"),
        ({"1.weight": 0.5}, "got '1.weight' of shape ()"),
        ({"1.weight": np.ones((2, 2, 3))}, "got '1.weight' of shape (2, 2, 3), which belongs to a Conv1d"),
        ({"1.weight": np.ones((2, 1, 3, 3))}, "got '1.weight' of shape (2, 1, 3, 3), which belongs to a Conv2d"),
        ({"1.weight_ih_l0": np.ones((8, 3))}, "got '1.weight_ih_l0', which belongs to a recurrent layer"),
        ({"1.in_proj_weight": np.ones((12, 4))}, "got '1.in_proj_weight', which belongs to an attention layer"),
        ({"0.parametrizations.weight.original0": np.ones(5)}, "which belongs to a Linear layer under weight_norm"),
        (
            {"1.weight_orig": np.ones((5, 3)), "1.bias": np.ones(5)},
            "'1.weight_orig', which belongs to a Linear layer under",
        ),
        (
            {"1.bias": np.ones(5), "1.parametrizations.weight.original0": np.ones(5)},
            "got '1.parametrizations.weight.or",
        ),
        ({"1.bias": np.ones(5)}, "got '1' without '<layer>.weight', wanted one"),
        ({"logits": np.ones(5)}, "got 'logits' of shape (5,), wanted names of linear layers, '<layer>.weight'"),
        (
            {"state_dict": {"0.weight": np.ones((4, 3))}},
            "got a dictionary under str 'state_dict', wanted tensors; pass that",
        ),
    ],
)
def test_other_parameters_are_named_for_what_they_are(arrays, message):
    refused(message, state_of([3, 5, 4], "#") | arrays, "relu")
    refused("pass ", state_of([3, 5, 4], "#") | arrays, "relu")


def test_other_things_are_refused_with_what_was_wanted():
    refused("module_or_state_dict: got list [1], wanted a torch.nn.Module or its state dict", [1], error=TypeError)
    refused("module_or_state_dict: got no layers, wanted at least one", {})
    refused("module_or_state_dict: '0.weight': got dtype <U1", {"0.weight": "a"}, error=TypeError)


class Tensor:
    """A tensor that tracks gradients and lives elsewhere; `dtype` and `float` as torch has them."""

    def __init__(self, array, dtype="torch.float32", ready=False):
        self.array, self.dtype, self.ready, self.shape = array, dtype, ready, array.shape

    def detach(self):
        return Tensor(self.array, self.dtype)

    def cpu(self):
        return Tensor(self.array, self.dtype, True)

    def float(self):
        assert self.dtype == "torch.bfloat16"
        return Tensor(self.array, "torch.float32", self.ready)

    def __array__(self, dtype=None, copy=None):
        assert self.ready
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


def test_tensors_are_detached_and_brought_home_and_narrow_ones_are_exact():
    mlp = refvlm.from_torch({"0.weight": Tensor(np.ones((4, 3))), "0.bias": Tensor(np.zeros(4))})
    assert mlp.sizes == (3, 4)
    weight = rng().normal(size=(4, 3)).astype(np.float32)
    mlp = refvlm.from_torch({"weight": Tensor(weight, "torch.bfloat16")})
    np.testing.assert_array_equal(mlp.weights[0], weight.T.astype(np.float64))
    half = rng().normal(size=(4, 3)).astype(np.float16)
    np.testing.assert_array_equal(refvlm.from_torch({"weight": half}).weights[0], half.T.astype(np.float64))
    assert refvlm.from_torch({"weight": [[1.0, 2.0, 3.0]]}).sizes == (3, 1)


def test_a_tensor_without_numbers_is_refused():
    class Meta(Tensor):
        def cpu(self):
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")

        detach = lambda self: self  # noqa: E731

        def __repr__(self):
            return "tensor(..., device='meta')"

    refused("wanted an array (Cannot copy out of meta tensor; no data!)", {"weight": Meta(np.ones((4, 3)))})

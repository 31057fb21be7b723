"""Weights from Flax and Keras; Keras's models are imitated by classes with the same attributes."""

import itertools
import re

import numpy as np
import pytest

import refvlm


def rng():
    return np.random.default_rng(4)


def refused(message, function, *arguments, error=ValueError, **named):
    """The call is refused in one line with this, literal, part of the message."""
    with pytest.raises(error, match=re.escape(message)) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)


def dense(*widths, name="Dense_#", bias=True):
    """Flax parameters of Dense layers, (fan_in, fan_out)."""
    params = {}
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        layer = {"kernel": rng().normal(size=(fan_in, fan_out)) + number}
        if bias:
            layer["bias"] = rng().normal(size=fan_out) + number
        params[name.replace("#", str(number))] = layer
    return params


def test_flax_kernels_keep_their_orientation_at_any_depth():
    w0, w1, b0 = rng().normal(size=(3, 5)), rng().normal(size=(5, 2)), rng().normal(size=5)
    params = {"Dense_1": {"kernel": w1}, "Dense_0": {"kernel": w0, "bias": b0}}
    flat = {("net", name, part): value for name, layer in params.items() for part, value in layer.items()}
    joined = {"/".join(path): value for path, value in flat.items()}
    for given in (params, {"params": params}, {"net": params}, {"params": {"net": params}}, flat, joined):
        mlp = refvlm.from_flax(given, activation="leaky_relu")
        assert mlp.activation == "leaky_relu"
        np.testing.assert_array_equal(mlp.weights[0], w0)
        np.testing.assert_array_equal(mlp.weights[1], w1)
        np.testing.assert_array_equal(mlp.biases[0], b0)
        assert (mlp.biases[1] == 0).all()


def test_flax_layers_are_ordered_by_numbers_or_by_widths_that_leave_one_order():
    many = {f"Dense_{i}": {"kernel": np.eye(3) + i} for i in (1, 10, 2, 0)}
    assert [int(w[0, 0]) - 1 for w in refvlm.from_flax(many, "elu").weights] == [0, 1, 2, 10]
    widths = {"out": {"kernel": np.ones((5, 2))}, "hidden": {"kernel": np.ones((3, 5))}}
    assert refvlm.from_flax(widths, "elu").sizes == (3, 5, 2)
    square = {name: {"kernel": np.full((3, 3), number)} for number, name in enumerate(("hidden", "inp", "out"))}
    message = "params: got the layers 'hidden' (3-3), 'inp' (3-3), 'out' (3-3), which fit together in several orders"
    refused(message, refvlm.from_flax, square, "elu")
    mlp = refvlm.from_flax(square, "elu", layers=["inp", "hidden", "out"])
    assert [w[0, 0] for w in mlp.weights] == [1, 0, 2]
    both = {"a_0": {"kernel": np.ones((3, 5))}, "b_0": {"kernel": np.ones((5, 3))}}
    refused("which fit together in several orders", refvlm.from_flax, both, "elu")
    assert refvlm.from_flax(both, "elu", layers=["a_0", "b_0"]).sizes == (3, 5, 3)
    apart = {"a": {"kernel": np.ones((3, 5))}, "b": {"kernel": np.ones((4, 2))}}
    refused("and in no order does each take what the one before it gives; pass prefix=", refvlm.from_flax, apart, "elu")


def test_numbers_decide_only_among_names_that_differ_in_nothing_else():
    """fc0, fc1 and out, 3-3, 3-3 and 3-4: the last can only be last; were it 3-3, it could be anywhere."""
    params = dense(3, 3, 3, name="fc#") | {"out": {"kernel": np.ones((3, 4))}}
    assert refvlm.from_flax(params, "relu").sizes == (3, 3, 3, 4)
    params["out"]["kernel"] = np.ones((3, 3))
    refused("in several orders", refvlm.from_flax, params, "relu")


def test_an_order_that_takes_too_long_to_find_is_asked_for():
    letters = "abcdefghijklmnopqrstuvwxyz"
    params = {letter: {"kernel": np.ones((3, 3))} for letter in letters} | {"zz": {"kernel": np.ones((5, 4))}}
    refused("in several orders", refvlm.from_flax, params, "relu")
    many = {letter * n: {"kernel": np.ones((3, 3))} for letter in letters for n in range(1, 50)}
    refused("in several orders", refvlm.from_flax, many, "relu")


@pytest.mark.parametrize("prefix", ["decoder/", "decoder", "params/decoder/", "decoder/net/", "decoder/net"])
def test_prefix_takes_a_part_of_the_parameters(prefix):
    params = {"decoder": {"net": dense(3, 5, 4)}, "encoder": dense(4, 6, 3), "BatchNorm_0": {"scale": np.ones(3)}}
    given = {"params": params, "batch_stats": {"BatchNorm_0": {"mean": np.ones(3)}}}
    assert refvlm.from_flax(given, "relu", prefix=prefix).sizes == (3, 5, 4)
    refused("activation: got None for the 2 layers", refvlm.from_flax, given, prefix=prefix)


def test_flax_prefixes_that_name_nothing_or_too_much_are_refused():
    params = {"decoder": dense(3, 5, 4), "encoder": dense(4, 6, 3)}
    refused("params: got several networks, 'encoder/', 'decoder/', wanted one", refvlm.from_flax, params, "relu")
    refused(
        "prefix: got 'dec/', with which no name in params begins; wanted one of 'decoder/', 'encoder/'",
        refvlm.from_flax,
        params,
        "relu",
        prefix="dec/",
    )
    refused("prefix: got NoneType None", refvlm.from_flax, params, prefix=None, error=TypeError)
    assert refvlm.from_flax(params, "relu", layers=["decoder/Dense_0", "decoder/Dense_1"]).sizes == (3, 5, 4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"Conv_0": {"kernel": np.ones((3, 3, 1, 5))}},
            "got 'Conv_0/kernel' of shape (3, 3, 1, 5), which belongs to a Conv;",
        ),
        (
            {"Attention": {"kernel": np.ones((3, 2, 5))}},
            "of shape (3, 2, 5), which belongs to a Conv, a DenseGeneral or",
        ),
        (
            {"LayerNorm_0": {"scale": np.ones(5), "bias": np.ones(5)}},
            "got 'LayerNorm_0/scale', which belongs to a normalisation",
        ),
        ({"Embed_0": {"embedding": np.ones((5, 3))}}, "got 'Embed_0/embedding', which belongs to an embedding"),
        ({"PReLU_0": {"negative_slope": 0.01}}, "got 'PReLU_0/negative_slope', which belongs to a PReLU"),
        ({"Dense_9": {"bias": np.ones(5)}}, "got 'Dense_9' without '<layer>.kernel', wanted one"),
        ({"Dense_9": {"kernel": np.array(1.0)}}, "got 'Dense_9/kernel' of shape ()"),
        ({"logits": np.ones(5)}, "got 'logits' of shape (5,), wanted names of linear layers, '<layer>.kernel'"),
    ],
)
def test_other_flax_parameters_are_named_for_what_they_are(params, message):
    refused(message, refvlm.from_flax, dense(3, 5, 4) | params, "relu")
    refused(message, refvlm.from_flax, {"params": dense(3, 5, 4) | params}, "relu")


def test_a_batch_norm_without_parameters_is_seen_by_its_statistics():
    given = {"params": dense(3, 5, 4), "batch_stats": {"BatchNorm_0": {"mean": np.ones(5), "var": np.ones(5)}}}
    refused(
        "got 'batch_stats/BatchNorm_0/mean' beside 'params', which belongs to a BatchNorm",
        refvlm.from_flax,
        given,
        "relu",
    )


def test_other_things_than_flax_parameters_are_refused():
    refused("params: got list [3], wanted a dictionary", refvlm.from_flax, [3], error=TypeError)
    refused("params: got no layers, wanted at least one", refvlm.from_flax, {})
    refused("activation: got str 'gelu'", refvlm.from_flax, dense(3, 5), "gelu")
    assert refvlm.from_flax(dense(3, 5)).sizes == (3, 5)


class Layer:
    """What from_keras asks of a layer."""

    def __init__(self, name="layer", weights=(), **attributes):
        self.name, self.weights = name, list(weights)
        vars(self).update(attributes)

    def get_weights(self):
        return self.weights


def layer(kind, name=None, **attributes):
    return type(kind, (Layer,), {})(name or kind.lower(), **attributes)


def keras_function(name, **defaults):
    """A function of that name, whose second argument has that default."""
    function = {
        0: lambda x: x,
        1: lambda x, negative_slope=0: x,
    }[len(defaults)]
    function.__name__ = name
    function.__defaults__ = tuple(defaults.values()) or None
    return function


def a_dense(fan_in, fan_out, activation="linear", name="dense", bias=True):
    weights = [rng().normal(size=(fan_in, fan_out)), *([rng().normal(size=fan_out)] if bias else [])]
    function = keras_function(activation) if isinstance(activation, str) else activation
    return layer("Dense", name, weights=weights, activation=function)


def model(kind, *layers, name="model", **attributes):
    bases = {"Sequential": ("Sequential", "Model"), "Functional": ("Functional", "Model"), "Own": ("Own", "Model")}
    parent = type(bases[kind][1], (Layer,), {})
    return type(bases[kind][0], (parent,), {})(name, layers=list(layers), **attributes)


def test_a_list_of_keras_weights_is_read_with_and_without_biases():
    w0, b0, w1, w2, b2 = (rng().normal(size=size) for size in ((3, 5), 5, (5, 2), (2, 4), 4))
    mlp = refvlm.from_keras([w0, b0, w1, w2, b2], "silu")
    assert (mlp.sizes, mlp.activation) == ((3, 5, 2, 4), "silu")
    for got, expected in zip((*mlp.weights, *mlp.biases), (w0, w1, w2, b0, np.zeros(2), b2), strict=True):
        np.testing.assert_array_equal(got, expected)
    message = "activation: got None for the 3 layers '[0]' (3-5), '[2]' (5-2), '[3]' (2-4), wanted what stands between"
    refused(message, refvlm.from_keras, [w0, b0, w1, w2, b2])
    assert refvlm.from_keras((w0, b0)).sizes == (3, 5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([np.ones((3, 3, 1, 5))], "weights_or_model[0]: got shape (3, 3, 1, 5), which is a convolution or attention"),
        (
            [np.ones((3, 5)), np.ones(5), np.ones(5)],
            "weights_or_model[2]: got shape (5,), which is a normalisation or a PReLU",
        ),
        ([np.ones(5)], "weights_or_model[0]: got shape (5,), which is a normalisation"),
        ([np.ones((3, 5)), 0.5], "weights_or_model[1]: got shape (), which is a scalar"),
        ([np.ones((3, 5)), np.ones(4)], "got a bias of shape (4,) for the layer '[0]' (3-5), wanted (5,)"),
        (
            [np.ones((3, 5)), np.ones((4, 2))],
            "got the layer '[0]' (3-5) and after it '[1]' (4-2), wanted that to take 5",
        ),
        ([], "weights_or_model: got no layers, wanted at least one"),
    ],
)
def test_other_lists_of_weights_are_refused(weights, message):
    refused(message, refvlm.from_keras, weights, "relu")


def test_names_do_not_go_with_a_list_of_weights():
    for named in ({"prefix": "decoder/"}, {"layers": ["dense"]}):
        refused("for a list of weights, which has no names", refvlm.from_keras, [np.ones((3, 5))], **named)
    refused("weights_or_model: got int 3, wanted a Keras model", refvlm.from_keras, 3, error=TypeError)


@pytest.mark.parametrize("kind", ["Sequential", "Functional"])
def test_a_keras_models_activations_are_read_and_its_last_sigmoid_is_said_to_be_left_out(kind):
    one, two = a_dense(3, 5, "swish", "one"), a_dense(5, 2, "silu", "two", bias=False)
    end = a_dense(2, 4, "sigmoid", "end")
    net = model(kind, layer("InputLayer"), one, layer("Dropout"), model("Sequential", two), layer("Flatten"), end)
    with pytest.warns(UserWarning, match="weights_or_model: the last sigmoid 'end' is left out: it is the") as caught:
        mlp = refvlm.from_keras(net)
    assert [warning.filename for warning in caught] == [__file__]
    assert (mlp.sizes, mlp.activation) == ((3, 5, 2, 4), "silu")
    for got, expected in zip(mlp.weights, (one, two, end), strict=True):
        np.testing.assert_array_equal(got, expected.weights[0])
    np.testing.assert_array_equal(mlp.biases[0], one.weights[1])
    assert (mlp.biases[1] == 0).all()


def test_activations_of_keras_may_be_layers():
    for activation, ours in (
        (layer("Activation", activation=keras_function("softplus")), "softplus"),
        (layer("ReLU", negative_slope=0.0, threshold=0.0, max_value=None), "relu"),
        (layer("LeakyReLU", negative_slope=0.01), "leaky_relu"),
        (layer("LeakyReLU", alpha=np.float64(0.01)), "leaky_relu"),  # Keras 2
        (layer("ELU", alpha=1.0), "elu"),
    ):
        net = model("Sequential", a_dense(3, 5), activation, a_dense(5, 4, name="end"))
        assert refvlm.from_keras(net).activation == ours
        within = a_dense(3, 5, activation.activation if ours == "softplus" else activation)
        assert refvlm.from_keras(model("Sequential", within, a_dense(5, 4, name="end"))).activation == ours


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (a_dense(3, 5, "gelu"), "got activation gelu 'dense', wanted linear layers with tanh, sigmoid, relu"),
        (
            a_dense(3, 5, keras_function("leaky_relu", negative_slope=0.2)),
            "got leaky_relu 'dense' with negative_slope=0.2",
        ),
        (
            a_dense(3, 5, layer("LeakyReLU", negative_slope=0.3)),
            "got LeakyReLU 'dense' with negative_slope=0.3, wanted 0.01",
        ),
        (a_dense(3, 5, layer("ELU", alpha=0.5)), "activation: got ELU 'dense' with alpha=0.5, wanted 1"),
        (a_dense(3, 5, layer("ReLU", negative_slope=0.1, threshold=0.0)), "got ReLU 'dense' with negative_slope=0.1"),
        (a_dense(3, 5, layer("ReLU", negative_slope=0.0, threshold=0.0, max_value=6)), "with max_value=6, wanted none"),
        (a_dense(3, 5), "which follow each other without an activation, wanted one between them"),
        (layer("Conv2D"), "got Conv2D 'conv2d', wanted linear layers"),
        (layer("BatchNormalization"), "got BatchNormalization 'batchnormalization', wanted linear layers"),
        (
            layer("Dense", activation=keras_function("relu")),
            "got the Dense 'dense', which is not built, wanted weights",
        ),
        (layer("Dense", weights=[np.ones((3, 5)), np.ones(5), np.ones((3, 2))]), "(3, 2)], wanted (fan_in, fan_out)"),
    ],
)
def test_what_no_mlp_here_has_is_refused_of_keras_too(first, message):
    refused(message, refvlm.from_keras, model("Sequential", first, a_dense(5, 4, name="end")))


def test_keras_models_that_are_no_chain_are_refused():
    one, end = a_dense(3, 5, "relu", "one"), a_dense(5, 4, name="end")
    refused("a model with 1 inputs and 2 outputs", refvlm.from_keras, model("Functional", one, end, outputs=[1, 2]))
    refused(
        "with 3 calls of 2 layers",
        refvlm.from_keras,
        model("Functional", one, end, _nodes_by_depth={0: [1, 2], 1: [3]}),
    )
    refused(
        "got relu 'one' and tanh 'two' in one network",
        refvlm.from_keras,
        model("Sequential", one, a_dense(5, 2, "tanh", "two"), a_dense(2, 4)),
    )
    refused("got relu 'one' after the last layer, wanted logits", refvlm.from_keras, model("Sequential", one))


def test_a_call_of_its_own_hides_what_keras_does():
    net = model("Own", a_dense(3, 5, "relu", "one"), a_dense(5, 4, name="end"))
    refused("activation: got None for the 2 layers 'one' (3-5), 'end' (5-4)", refvlm.from_keras, net)
    refused("is in a call method, which cannot be read; of activations it holds relu 'one'", refvlm.from_keras, net)
    refused("activation: got 'tanh' for a network with relu 'one'", refvlm.from_keras, net, "tanh")
    assert refvlm.from_keras(net, "relu").sizes == (3, 5, 4)
    twice = model("Own", a_dense(3, 5, "relu", "same"), a_dense(5, 4, name="same"))
    assert refvlm.from_keras(twice, "relu").sizes == (3, 5, 4)


def test_parts_of_keras_models_are_taken_by_name():
    encoder = model("Functional", a_dense(4, 6, "tanh", "a"), a_dense(6, 3, name="b"), name="encoder", outputs=[1, 2])
    decoder = model("Sequential", a_dense(3, 5, "relu", "c"), a_dense(5, 4, name="d"), name="decoder")
    whole = model("Own", encoder, layer("Sampling"), decoder)
    for prefix in ("decoder/", "decoder"):
        mlp = refvlm.from_keras(whole, prefix=prefix)
        assert (mlp.sizes, mlp.activation) == ((3, 5, 4), "relu")
    refused(
        "prefix: got 'dec/', with which no name in weights_or_model begins", refvlm.from_keras, whole, prefix="dec/"
    )
    assert refvlm.from_keras(whole, "relu", layers=["decoder/c", "decoder/d"]).sizes == (3, 5, 4)
    refused("activation: got None for the 2 layers", refvlm.from_keras, whole, layers=["decoder/c", "decoder/d"])
    refused(
        "layers: got str 'c', which is not in weights_or_model; wanted some of 'encoder/a'",
        refvlm.from_keras,
        whole,
        "relu",
        layers=["c"],
    )

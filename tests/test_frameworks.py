"""The imitations in test_from_torch.py, test_from_flax_keras.py and test_safetensors.py, against the real ones.

Each test needs its framework, and is skipped without. Logits are compared with the frameworks' own in float64,
Keras's in float32.
"""

import itertools
import warnings

import numpy as np
import pytest

import refvlm

Z = np.random.default_rng(6).integers(0, 2, size=(9, 3)).astype(np.float64)
CLOSE = {"rtol": 1e-13, "atol": 1e-14}  # a few roundings of sums of some ten numbers


@pytest.fixture
def torch():
    module = pytest.importorskip("torch")
    module.manual_seed(7)
    module.set_num_threads(1)
    return module


def linear_and(torch, act, *widths, dtype=None, bias=True):
    """Linear layers with act() between them."""
    layers = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(fan_in, fan_out, bias=bias, dtype=dtype), act()]
    return torch.nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("name", ["Tanh", "Sigmoid", "ReLU", "LeakyReLU", "ELU", "Softplus", "SiLU"])
def test_the_logits_of_torch_modules_are_those_of_the_mlp(torch, name):
    net = linear_and(torch, getattr(torch.nn, name), 3, 5, 7, 4)
    net.insert(1, torch.nn.Dropout(0.5))
    ours = {"LeakyReLU": "leaky_relu"}.get(name, name.lower())
    mlp = refvlm.from_torch(net)
    assert (mlp.sizes, mlp.activation) == ((3, 5, 7, 4), ours)
    for given in (net, torch.nn.DataParallel(net)):
        again = refvlm.from_torch(given.state_dict(), ours)
        for got, expected in zip(again.weights + again.biases, mlp.weights + mlp.biases, strict=True):
            np.testing.assert_array_equal(got, expected)
        assert refvlm.from_torch(given).activation == ours
    expected = net.double().eval()(torch.tensor(Z)).detach().numpy()
    np.testing.assert_allclose(mlp.forward(Z)[0], expected, **CLOSE)


def test_softplus_of_torch_is_ours_but_above_its_threshold_by_2e_minus_9(torch):
    net = linear_and(torch, torch.nn.Softplus, 3, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        net[0].weight *= 30
    z = torch.tensor(Z)
    assert (net[0](z) > 20).any()
    allowed = 2.1e-9 * net[2].weight.abs().sum(1).max().item()
    difference = np.abs(refvlm.from_torch(net).forward(Z)[0] - net(z).detach().numpy()).max()
    assert 1e-14 < difference < allowed


def test_compiled_and_shared_and_nested_torch_modules_are_read(torch):
    nn, act = torch.nn, torch.nn.SiLU()
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 5), act), nn.Sequential(nn.Linear(5, 7), act), nn.Linear(7, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        compiled = torch.compile(net)
    for given in (net, compiled, nn.DataParallel(net)):
        assert repr(refvlm.from_torch(given)) == "MLP(3-5-7-4, silu)"
    state = compiled.state_dict()
    assert repr(refvlm.from_torch(state, "silu")) == "MLP(3-5-7-4, silu)"


def test_a_torch_autoencoder_gives_its_decoder_and_its_last_sigmoid_is_said(torch):
    nn = torch.nn

    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
            self.decoder = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Sigmoid())

        def forward(self, x):
            return self.decoder(self.encoder(x))

    net = Autoencoder().double().eval()
    with pytest.warns(UserWarning, match="the last Sigmoid '3' is left out"):
        mlp = refvlm.from_torch(net, prefix="decoder.")
    expected = net.decoder(torch.tensor(Z)).detach().numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-mlp.forward(Z)[0])), expected, **CLOSE)
    with pytest.raises(ValueError, match=r"got BatchNorm1d 'encoder\.2'"):
        refvlm.from_torch(net)
    with pytest.raises(ValueError, match=r"got '2\.running_mean', which belongs to a BatchNorm"):
        refvlm.from_torch(net.state_dict(), "relu", prefix="encoder.")


def test_a_torch_forward_of_its_own_has_to_be_said(torch):
    nn = torch.nn

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(3, 5), nn.Linear(5, 4)

        def forward(self, z):
            return self.fc2(nn.functional.relu(self.fc1(z)))

    net = Decoder().double()
    with pytest.raises(ValueError, match="is in a forward method, which cannot be read"):
        refvlm.from_torch(net)
    np.testing.assert_allclose(
        refvlm.from_torch(net, "relu").forward(Z)[0], net(torch.tensor(Z)).detach().numpy(), **CLOSE
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda nn: nn.PReLU(), "1.weight' of shape .1,., which belongs to a PReLU"),
        (lambda nn: nn.RMSNorm(5), "or an RMSNorm"),
        (lambda nn: nn.LayerNorm(5), "which belongs to a LayerNorm"),
        (lambda nn: nn.BatchNorm1d(5), "which belongs to a BatchNorm"),
        (lambda nn: nn.LSTM(5, 5), "which belongs to a recurrent layer"),
        (lambda nn: nn.MultiheadAttention(5, 1), "which belongs to an attention layer"),
        (lambda nn: nn.Conv2d(5, 5, 3), "which belongs to a Conv2d"),
        (lambda nn: nn.Bilinear(5, 5, 5), "or a Bilinear"),
        (lambda nn: nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)), "under weight_norm"),
        (lambda nn: nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5)), "under weight_norm, spectral_norm"),
    ],
)
def test_torch_modules_that_no_mlp_has_are_named(torch, make, message):
    module = make(torch.nn)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), module, torch.nn.Linear(5, 4))
    with pytest.raises(ValueError, match=f"got {type(module).__name__} '1'"):
        refvlm.from_torch(net)
    with pytest.raises(ValueError, match=message):
        refvlm.from_torch(net.state_dict(), "relu")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float8_e4m3fn"])
def test_narrow_torch_tensors_are_exact(torch, dtype):
    weight = torch.randn(4, 3).to(getattr(torch, dtype))
    np.testing.assert_array_equal(refvlm.from_torch({"weight": weight}).weights[0], weight.double().numpy().T)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_files_of_the_safetensors_package_are_read(torch, dtype, tmp_path):
    library = pytest.importorskip("safetensors.torch")
    net = linear_and(torch, torch.nn.SiLU, 3, 5, 7, 4, dtype=getattr(torch, dtype))
    state = {f"decoder.{name}": value for name, value in net.state_dict().items()}
    state |= {"bn.running_mean": torch.zeros(3), "bn.num_batches_tracked": torch.tensor(3)}
    path = tmp_path / "net.safetensors"
    library.save_file(state, path, {"format": "pt"})
    mlp = refvlm.from_safetensors(path, "decoder.", activation="silu")
    expected = refvlm.from_torch(net)
    for got, wanted in zip(mlp.weights + mlp.biases, expected.weights + expected.biases, strict=True):
        np.testing.assert_array_equal(got, wanted)
    again = refvlm.from_torch(library.load_file(path), "silu", prefix="decoder.")  # which has sorted the names
    np.testing.assert_array_equal(again.weights[1], expected.weights[1])
    with pytest.raises(refvlm.FileFormatError, match=r"refvlm\.from_safetensors"):
        refvlm.load(path)


def test_the_safetensors_package_reads_and_writes_model_files(tmp_path):
    library, numpy = pytest.importorskip("safetensors"), pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(8)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.1, -2.0]), refvlm.MLP.random([3, 5, 4], rng))
    for number, q in enumerate(
        (None, refvlm.PerDatumPosterior(np.zeros((0, 3))), refvlm.PerDatumPosterior([[0, 1, 2]]))
    ):
        path, copy = tmp_path / f"{number}.safetensors", tmp_path / "copy.safetensors"
        refvlm.save(path, model, q)
        arrays = numpy.load_file(path)
        expected = {f"model.{name}": value for name, value in model.parameters().items()}
        if q is not None:
            expected |= {f"posterior.{name}": value for name, value in q.parameters().items()}
        assert set(arrays) == set(expected)
        for name, value in expected.items():
            assert arrays[name].dtype == np.float64
            np.testing.assert_array_equal(arrays[name], value)
        with library.safe_open(path, "numpy") as file:
            metadata = file.metadata()
        numpy.save_file(arrays, copy, metadata)
        again, posterior = refvlm.load(copy)
        assert (posterior is None) == (q is None)
        for name, value in again.parameters().items():
            assert value.tobytes() == model.parameters()[name].tobytes()


def test_parameters_of_flax_are_read(tmp_path):
    linen, jax, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("jax"), pytest.importorskip("flax.nnx")

    class Decoder(linen.Module):
        def setup(self):
            self.out, self.hidden = linen.Dense(4, use_bias=False), linen.Dense(5, param_dtype=jax.numpy.bfloat16)

        def __call__(self, z):
            return self.out(linen.relu(self.hidden(z)))

    class Autoencoder(linen.Module):
        def setup(self):
            self.encoder = linen.Sequential([linen.Dense(6), linen.tanh, linen.Dense(3)])
            self.decoder = Decoder()

        def __call__(self, x):
            return self.decoder(self.encoder(x))

    variables = Autoencoder().init(jax.random.key(0), np.zeros((1, 4)))
    params = variables["params"]["decoder"]
    mlp = refvlm.from_flax(variables, "relu", prefix="decoder/")
    assert repr(mlp) == "MLP(3-5-4, relu)"
    for name, got in (("hidden", mlp.weights[0]), ("out", mlp.weights[1])):
        np.testing.assert_array_equal(got, np.asarray(params[name]["kernel"]).astype(np.float64))
    assert repr(refvlm.from_flax(variables, "tanh", prefix="encoder")) == "MLP(4-6-3, tanh)"
    with pytest.raises(ValueError, match="got several networks"):
        refvlm.from_flax(variables, "tanh")
    library = pytest.importorskip("safetensors.flax")
    flat = pytest.importorskip("flax.traverse_util").flatten_dict(variables["params"], sep=".")
    library.save_file(flat, tmp_path / "net.safetensors")
    again = refvlm.from_safetensors(tmp_path / "net.safetensors", "decoder.", activation="relu")
    for got, expected in zip(again.weights, mlp.weights, strict=True):
        np.testing.assert_array_equal(got, expected)

    rngs = nnx.Rngs(0)
    net = nnx.Sequential(nnx.Linear(3, 5, rngs=rngs), nnx.relu, nnx.Linear(5, 4, rngs=rngs))
    state = nnx.state(net)
    assert repr(refvlm.from_flax(state, "relu")) == "MLP(3-5-4, relu)"
    np.testing.assert_array_equal(
        refvlm.from_flax(state, "relu", prefix="layers/").weights[1], np.asarray(net.layers[2].kernel[...])
    )


@pytest.fixture
def keras(monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own
        module = pytest.importorskip("keras")
        yield module


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "elu", "softplus", "silu"])
@pytest.mark.parametrize("functional", [False, True])
def test_the_logits_of_keras_models_are_those_of_the_mlp(keras, name, functional):
    layers = [
        keras.layers.Dense(5, activation=name, bias_initializer="random_normal"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(7, use_bias=False),
        keras.layers.Activation(name),
        keras.layers.Dense(4, activation="sigmoid"),
    ]
    if functional:
        start = end = keras.Input((3,))
        for layer in layers:
            end = layer(end)
        net = keras.Model(start, end)
    else:
        net = keras.Sequential([keras.Input((3,)), *layers])
    with pytest.warns(UserWarning, match="the last sigmoid '.*' is left out"):
        mlp = refvlm.from_keras(net)
    assert (mlp.sizes, mlp.activation) == ((3, 5, 7, 4), name)
    expected = np.asarray(net(Z))  # in float32, which Keras falls back to here and there under float64, too
    np.testing.assert_allclose(1 / (1 + np.exp(-mlp.forward(Z)[0])), expected, rtol=3e-6)  # 50 roundings of float32
    again = refvlm.from_keras(net.get_weights(), name)
    for got, wanted in zip(again.weights + again.biases, mlp.weights + mlp.biases, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_constants_and_shapes_of_keras_that_are_not_ours_are_refused(keras):
    start, dense = keras.Input((3,)), keras.layers.Dense
    shared = dense(3, activation="tanh")
    hidden = dense(4, activation="relu")(start)
    for net, message in (
        (keras.Sequential([start, dense(5, activation="leaky_relu"), dense(4)]), "negative_slope=0.2, wanted 0.01"),
        (keras.Sequential([start, dense(5), keras.layers.LeakyReLU(), dense(4)]), "negative_slope=0.3, wanted 0.01"),
        (keras.Sequential([start, dense(5), keras.layers.BatchNormalization(), dense(4)]), "got BatchNormalization"),
        (keras.Model(start, [dense(4)(hidden), dense(4)(hidden)]), "with 1 inputs and 2 outputs"),
        (keras.Model(start, keras.layers.Add()([dense(3)(start), start])), "got Add"),
        (keras.Model(start, dense(4)(shared(shared(start)))), "with 4 calls of 3 layers"),
    ):
        with pytest.raises(ValueError, match=message):
            refvlm.from_keras(net)
    net = keras.Sequential([start, dense(5), keras.layers.LeakyReLU(negative_slope=0.01), dense(4)])
    assert refvlm.from_keras(net).activation == "leaky_relu"

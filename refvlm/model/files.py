"""Model files: a .npz or safetensors file of float64 arrays under the names of `parameters()`, with a JSON header.

The file holds `model.*` and, if there is one, `posterior.*`. The header, which is the bytes of the array `header`, or
the text `refvlm` among the metadata of a safetensors file, says how the arrays belong together and carries a format
version. Files are hostile until validated: nothing is unpickled, sizes are checked before memory is taken, an array
that the header does not ask for is never read, and names and shapes must be exactly the expected ones.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ..archives import read_index
from ..checks import FileFormatError, check_fits, describe, quoted, shortened
from ..storage import atomic_write, open_file
from ..strict_json import parse
from ..types import Floats
from . import safetensors
from .bernoulli import Bernoulli
from .latent_variable import BernoulliLVM
from .mlp import MLP, Network
from .parameters import prefixed, under
from .recognition import AmortisedPosterior, ChainPosterior, LayerwisePosterior, PerDatumPosterior, Posterior

FORMAT_VERSION = 1

_STAGED: dict[str, type[ChainPosterior | LayerwisePosterior]] = {
    "chain": ChainPosterior, "layerwise": LayerwisePosterior,
}  # fmt: skip
_DEEPEST = 16
_LARGEST_HEADER = 1 << 16
_METADATA = "refvlm"


class Stored(Protocol):
    """An array in an open file, not yet read."""

    def read(self) -> Floats:
        """Its numbers, float64."""


def save(path: str | os.PathLike[str], model: BernoulliLVM, posterior: Posterior | None = None) -> None:
    """Write a model and, if given, its posterior to `path`; atomically, so no half file is ever left.

    A path that ends in .safetensors becomes a safetensors file, any other a .npz: the same arrays by the same names.
    Decoders and encoders must be MLPs (TypeError otherwise). Raises OSError where the file cannot be written.
    """
    if not isinstance(model, BernoulliLVM):
        raise TypeError(f"model: got {describe(model)}, wanted a BernoulliLVM")
    header = {
        "format": "refvlm",
        "version": FORMAT_VERSION,
        "model": _describe_model(model),
        "posterior": None if posterior is None else _describe_posterior(posterior),
    }
    arrays = prefixed("model.", model.parameters())
    if posterior is not None:
        arrays |= prefixed("posterior.", posterior.parameters())
    text = json.dumps(header, sort_keys=True)
    if os.fsdecode(path).lower().endswith(".safetensors"):
        content = safetensors.pieces(arrays, {_METADATA: text})
    else:
        buffer = io.BytesIO()
        raw = np.frombuffer(text.encode(), dtype=np.uint8)
        np.savez(buffer, header=raw, **arrays)  # type: ignore[arg-type]  # its last named argument is a bool
        content = iter([buffer.getvalue()])
    with atomic_write(path) as file:
        file.writelines(content)


def load(path: str | os.PathLike[str]) -> tuple[BernoulliLVM, Posterior | None]:
    """The model in `path`, as save wrote it, and its posterior or None.

    Raises FileFormatError for a file that is truncated, foreign, pickled, inconsistent or of a later format version,
    and OSError where it cannot be read.
    """
    name = os.fspath(path)
    with open_file(path) as file:
        recognised = safetensors.recognised(file.peek(9)[:9])
        arrays, raw = _read_safetensors(name, file) if recognised else _read_npz(name, file)
        try:
            return _build(arrays, raw)
        except FileFormatError:
            raise
        except (ValueError, TypeError) as error:
            raise FileFormatError(f"{name}: not a consistent model file: {error}") from None


def _describe_network(name: str, network: Network) -> dict[str, Any]:
    if not isinstance(network, MLP):
        raise TypeError(f"{name}: got {describe(network)}, wanted an MLP; other networks cannot be written to a file")
    return {"activation": network.activation, "layers": len(network.weights)}


def _describe_model(model: BernoulliLVM) -> dict[str, Any]:
    prior = {"kind": "bernoulli"} if isinstance(model.prior, Bernoulli) else _describe_model(model.prior)
    return {"kind": "model", "prior": prior, "decoder": _describe_network("decoder", model.decoder)}


def _describe_posterior(posterior: Posterior) -> dict[str, Any]:
    for kind, staged in _STAGED.items():
        if isinstance(posterior, staged):
            return {"kind": kind, "stages": [_describe_posterior(stage) for stage in posterior.stages]}
    if isinstance(posterior, AmortisedPosterior):
        return {"kind": "amortised", "encoder": _describe_network("encoder", posterior.encoder)}
    if isinstance(posterior, PerDatumPosterior):
        return {"kind": "per-datum"}
    raise TypeError(f"posterior: got {describe(posterior)}, wanted a posterior of refvlm")


def _read_npz(name: str, file: io.BufferedReader) -> tuple[Mapping[str, Stored], bytes]:
    """The arrays of an archive, and the bytes of its header."""
    members = read_index(name, file, "a model file written by refvlm.save")
    member = members.pop("header", None)
    layout = None if member is None else member.layout()
    if member is None or layout is None or len(layout.shape) != 1 or layout.size > _LARGEST_HEADER:
        raise FileFormatError(
            f"{name}: a foreign .npz, without refvlm's header; wanted a model file written by refvlm.save"
        )
    return members, member.read("u1").tobytes()


def _read_safetensors(name: str, file: io.BufferedReader) -> tuple[Mapping[str, Stored], bytes]:
    """The arrays of a safetensors file, and the bytes of our header in its metadata."""
    tensors, metadata = safetensors.read_index(name, file)
    if _METADATA not in metadata or len(metadata[_METADATA]) > _LARGEST_HEADER:
        raise FileFormatError(
            f"{name}: a safetensors file of another program, without refvlm's header; wanted a model file written by "
            "refvlm.save; for weights of other programs there is refvlm.from_safetensors"
        )
    for key, tensor in tensors.items():
        if tensor.dtype != "F64":
            raise FileFormatError(f"{name}: array {quoted(key)}: holds {tensor.dtype}; wanted F64, that is float64")
    size = sum(8 * math.prod(tensor.shape) for tensor in tensors.values())
    check_fits(f"{name}: its arrays", size, "wanted a smaller file", FileFormatError)
    return tensors, metadata[_METADATA].encode(errors="replace")


def _build(arrays: Mapping[str, Stored], raw: bytes) -> tuple[BernoulliLVM, Posterior | None]:
    """What the header describes, of arrays that must be those it asks for."""
    header = _read_header(raw)
    model = _build_model(header["model"], under("model.", arrays), 0)
    described = header["posterior"]
    posterior = None if described is None else _build_posterior(described, under("posterior.", arrays))
    expected = {f"model.{key}" for key in model.parameters()}
    if posterior is not None:
        expected |= {f"posterior.{key}" for key in posterior.parameters()}
    if strays := sorted(arrays.keys() - expected):
        raise ValueError(
            f"arrays that do not belong: {', '.join(map(quoted, strays[:5]))}{', ...' * (len(strays) > 5)}"
        )
    return model, posterior


def _read_header(raw: bytes) -> dict[str, Any]:
    """What the header says."""
    try:
        header = parse(raw)
    except ValueError as error:
        raise ValueError(f"its header {error}") from None
    if not isinstance(header, dict) or header.get("format") != "refvlm":
        raise ValueError("a foreign header; wanted a model file written by refvlm.save")
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise ValueError(f"format version {describe(version)}, wanted a positive integer")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"format version {shortened(str(version))}, and this refvlm reads up to {FORMAT_VERSION}; install a "
            "later refvlm"
        )
    if set(header) != {"format", "version", "model", "posterior"}:
        raise ValueError(f"header fields {describe(sorted(header))}, wanted format, version, model, posterior")
    return header


def _array(arrays: Mapping[str, Stored], name: str) -> Floats:
    """The numbers of an array that the header asks for."""
    if name not in arrays:
        raise ValueError(f"the array {quoted(name)} is missing")
    return arrays[name].read()


def _fields(described: Any, *names: str) -> list[Any]:
    """The values of exactly these fields."""
    if not isinstance(described, dict) or set(described) != set(names):
        raise ValueError(f"header: got {describe(described)}, wanted an object with {', '.join(names)}")
    return [described[name] for name in names]


def _build_network(described: Any, arrays: Mapping[str, Stored]) -> MLP:
    activation, layers = _fields(described, "activation", "layers")
    if type(layers) is not int or not 1 <= layers <= len(arrays):
        raise ValueError(f"header: got {describe(layers)} layers, wanted an integer from 1 to {len(arrays)}")
    weights, biases = ([_array(arrays, f"{kind}.{d}") for d in range(layers)] for kind in ("weights", "biases"))
    return MLP(weights, biases, activation)


def _build_model(described: Any, arrays: Mapping[str, Stored], depth: int) -> BernoulliLVM:
    kind, prior, decoder = _fields(described, "kind", "prior", "decoder")
    if kind != "model" or depth > _DEEPEST:
        raise ValueError(
            f"header: got the kind {describe(kind)} at depth {depth}, wanted 'model', at most {_DEEPEST} deep"
        )
    above = under("prior.", arrays)
    if isinstance(prior, dict) and prior.get("kind") == "bernoulli":
        _fields(prior, "kind")
        built: Bernoulli | BernoulliLVM = Bernoulli(_array(above, "logits"))
    else:
        built = _build_model(prior, above, depth + 1)
    return BernoulliLVM(built, _build_network(decoder, under("decoder.", arrays)))


def _build_posterior(described: Any, arrays: Mapping[str, Stored]) -> Posterior:
    kind = described.get("kind") if isinstance(described, dict) else None
    staged = _STAGED.get(kind) if isinstance(kind, str) else None
    if staged is None:
        return _build_stage(described, arrays)
    _, stages = _fields(described, "kind", "stages")
    if not isinstance(stages, list) or len(stages) > _DEEPEST:
        raise ValueError(f"header: got {describe(stages)}, wanted a list of at most {_DEEPEST} stages")
    return staged([_build_stage(stage, under(f"{depth}.", arrays)) for depth, stage in enumerate(stages)])


def _build_stage(described: Any, arrays: Mapping[str, Stored]) -> AmortisedPosterior | PerDatumPosterior:
    kind = described.get("kind") if isinstance(described, dict) else None
    if kind == "amortised":
        _, encoder = _fields(described, "kind", "encoder")
        return AmortisedPosterior(_build_network(encoder, under("encoder.", arrays)))
    _fields(described, "kind")
    if kind != "per-datum":
        raise ValueError(
            f"header: got the kind {describe(kind)}, wanted 'amortised', 'per-datum', 'chain' or 'layerwise'"
        )
    return PerDatumPosterior(_array(arrays, "logits"))

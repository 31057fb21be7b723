"""Vectors of floats, one state per lane, as values that live in registers.

Numba compiles arithmetic on a `Block` (32 lanes) or an `Octet` (8) to LLVM's vector instructions, which LLVM splits
into as many hardware vectors as it takes. The number of lanes is always the same, so the bits do not depend on the
hardware; and a register tile is one because it is written as one, not because a vectoriser found it.

A `Tile` is as many lanes of a block as suit the registers (`hardware.py`): 32 where they are 512 bits wide, else 8.
What is computed lane by lane goes through a block tile by tile, `for lane in range(0, BLOCK, TILE)`, and a sum over
lanes is taken of all 32 at the end, from memory; so the size of a tile changes no bit. A `Strand` is the part of an
octet of which eight sums fill half of the registers: 8 lanes, or 4.

`+ - * /` and unary minus work between two vectors of one kind and between a vector and a float; so do `fma`,
`where_less` and the other functions here, and on plain floats as well. So `elementary.py` is written once for all.
Loads and stores take a flat array and an index and check nothing; `load_one` is a load of a number that does not ask
whether its index is negative, as Numba does for `array[index]`, at a cost of three instructions.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, register_model

from ...types import Floats
from .compiling import allocating
from .constants import BLOCK, OCTET
from .hardware import HARDWARE

TILE, STRAND = HARDWARE.tile, HARDWARE.strand
"""Lanes of a tile, and of a part of an octet."""
_DOUBLE, _WORD, _INDEX = ir.DoubleType(), ir.IntType(64), ir.IntType(32)


class Lanes(types.Type):  # type: ignore[misc]  # numba has no types
    """Numba's type of a vector of `width` floats."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes({width})")


@register_model(Lanes)
class _LanesModel(PrimitiveModel):  # type: ignore[misc]  # numba has no types
    """In LLVM: <width x double>."""

    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(_DOUBLE, lanes.width))


Block, Octet, Tile, Strand = Lanes(BLOCK), Lanes(OCTET), Lanes(TILE), Lanes(STRAND)
_KINDS = tuple({kind.width: kind for kind in (Block, Lanes(2 * OCTET), Octet, Tile, Strand)}.values())


def _llvm(kind: Any, element: Any = _DOUBLE) -> Any:
    return ir.VectorType(element, kind.width) if isinstance(kind, Lanes) else element


def _constant(kind: Any, value: Any, element: Any = _DOUBLE) -> Any:
    return ir.Constant(_llvm(kind, element), [value] * kind.width if isinstance(kind, Lanes) else value)


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    """A scalar in every lane."""
    if not isinstance(kind, Lanes):
        return value
    nothing = ir.Constant(_llvm(kind), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_INDEX, kind.width), [0] * kind.width))


def _alike(builder: Any, kind: Any, kinds: Any, values: Any) -> list[Any]:
    """The values as `kind`, floats spread."""
    return [v if k == kind else _spread(builder, v, kind) for k, v in zip(kinds, values, strict=True)]


def _common(kinds: Any) -> Any:
    """What an operation on these kinds gives: a vector if one of them is."""
    vectors = {k for k in kinds if isinstance(k, Lanes)}
    if len(vectors) > 1 or any(k not in vectors and not isinstance(k, (types.Float, types.Integer)) for k in kinds):
        return None
    return vectors.pop() if vectors else types.float64


def _operator(function: Any, emit: Any) -> None:
    """Teach Numba a binary operator on vectors."""
    pairs = [pair for k in _KINDS for pair in ((k, k), (k, types.float64), (types.float64, k))]

    class Template(ConcreteTemplate):  # type: ignore[misc]  # numba has no types
        key = function
        cases = [signature(_common(pair), *pair) for pair in pairs]  # noqa: RUF012  # numba reads it so

    infer_global(function)(Template)
    for pair in pairs:

        @lower_builtin(function, *pair)
        def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return emit(builder, *_alike(builder, sig.return_type, sig.args, values))


_operator(operator.add, lambda builder, x, y: builder.fadd(x, y))
_operator(operator.sub, lambda builder, x, y: builder.fsub(x, y))
_operator(operator.mul, lambda builder, x, y: builder.fmul(x, y))
_operator(operator.truediv, lambda builder, x, y: builder.fdiv(x, y))


@infer_global(operator.neg)
class _Negative(ConcreteTemplate):  # type: ignore[misc]  # numba has no types
    key = operator.neg
    cases = [signature(k, k) for k in _KINDS]  # noqa: RUF012  # numba reads it so


for _kind in _KINDS:
    lower_builtin(operator.neg, _kind)(lambda context, builder, sig, values: builder.fneg(values[0]))


def _elementwise(emit: Any, kinds: tuple[Any, ...]) -> Any:
    """Type and code of a function that gives the common kind of its arguments."""
    kind = _common(kinds)
    if kind is None:
        return None
    operands = tuple(k if isinstance(k, Lanes) else types.float64 for k in kinds)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return emit(builder, kind, *_alike(builder, kind, operands, values))

    return kind(*operands), generate


def _call(builder: Any, name: str, kind: Any, *values: Any) -> Any:
    shape = f"v{kind.width}f64" if isinstance(kind, Lanes) else "f64"
    function = ir.FunctionType(_llvm(kind), [_llvm(kind)] * len(values))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"{name}.{shape}"), values)


@allocating
def vectors(count: int) -> Floats:
    """`count` zeros that start at a cache line: a vector that straddles two costs twice."""
    room = np.zeros(count + 7)
    start = (-room.ctypes.data % 64) // 8
    return room[start : start + count]


@intrinsic
def fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z with one rounding."""
    return _elementwise(lambda builder, kind, *v: _call(builder, "llvm.fma", kind, *v), (x, y, z))


@intrinsic
def absolute(typing_context: Any, x: Any) -> Any:
    """|x|."""
    return _elementwise(lambda builder, kind, v: _call(builder, "llvm.fabs", kind, v), (x,))


@intrinsic
def nearest(typing_context: Any, x: Any) -> Any:
    """The nearest integer, ties to even."""
    return _elementwise(lambda builder, kind, v: _call(builder, "llvm.rint", kind, v), (x,))


@intrinsic
def where_less(typing_context: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x where a < b, else y (also where a or b is NaN)."""

    def emit(builder: Any, kind: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", a, b), x, y)

    return _elementwise(emit, (a, b, x, y))


@intrinsic
def power_of_magic(typing_context: Any, k: Any) -> Any:
    """2**n from the float n + 1.5 * 2**52, -1022 <= n <= 1023: the low bits become the exponent field."""

    def emit(builder: Any, kind: Any, k: Any) -> Any:
        bits = builder.add(builder.bitcast(k, _llvm(kind, _WORD)), _constant(kind, 1023, _WORD))
        return builder.bitcast(builder.shl(bits, _constant(kind, 52, _WORD)), _llvm(kind))

    return _elementwise(emit, (k,))


@intrinsic
def exponent(typing_context: Any, x: Any) -> Any:
    """The integer-valued e of x = m * 2**e, 1 <= m < 2, for a positive normal x."""

    def emit(builder: Any, kind: Any, x: Any) -> Any:
        bits = builder.lshr(builder.bitcast(x, _llvm(kind, _WORD)), _constant(kind, 52, _WORD))
        shifted = builder.or_(bits, _constant(kind, 0x4330000000000000, _WORD))  # 2**52 + the biased exponent
        return builder.fsub(builder.bitcast(shifted, _llvm(kind)), _constant(kind, 2.0**52 + 1023))

    return _elementwise(emit, (x,))


@intrinsic
def mantissa(typing_context: Any, x: Any) -> Any:
    """The m of x = m * 2**e, 1 <= m < 2, for a positive normal x."""

    def emit(builder: Any, kind: Any, x: Any) -> Any:
        bits = builder.and_(builder.bitcast(x, _llvm(kind, _WORD)), _constant(kind, 0x000FFFFFFFFFFFFF, _WORD))
        return builder.bitcast(builder.or_(bits, _constant(kind, 0x3FF0000000000000, _WORD)), _llvm(kind))

    return _elementwise(emit, (x,))


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _llvm(kind).as_pointer())


def _load(kind: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, sig.args[0], values[0], values[1], kind), align=8)

    return kind(array, types.intp), generate


@intrinsic
def load_block(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index : index + BLOCK]."""
    return _load(Block, array)


@intrinsic
def load_octet(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index : index + OCTET]."""
    return _load(Octet, array)


@intrinsic
def load_tile(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index : index + TILE]."""
    return _load(Tile, array)


@intrinsic
def load_strand(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index : index + STRAND]."""
    return _load(Strand, array)


@intrinsic
def load_like(typing_context: Any, kind: Any, array: Any, index: Any) -> Any:
    """array[index : index + width], as many as the vector `kind` has, whose lanes do not matter."""
    if not isinstance(kind, Lanes):
        return None

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, sig.args[1], values[1], values[2], kind), align=8)

    return kind(kind, array, types.intp), generate


@intrinsic
def octets_like(typing_context: Any, octets: Any) -> Any:
    """Zeros in as many octets as the tuple has entries: 1, 2 or 4."""
    kind = Lanes(OCTET * len(octets))
    return kind(octets), lambda context, builder, sig, values: _constant(kind, 0.0)


@intrinsic
def width_of(typing_context: Any, x: Any) -> Any:
    """Its lanes: a constant to the compiler."""
    if not isinstance(x, Lanes):
        return None
    return types.intp(x), lambda context, builder, sig, values: ir.Constant(_WORD, x.width)


@intrinsic
def load_one(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index] for an index that is not negative: a float, or an integer of 64 bits."""
    floats = isinstance(array.dtype, types.Float)
    signed = floats or array.dtype.signed

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, values[0]).data
        value = builder.load(builder.gep(data, [values[1]]))
        return value if floats else builder.sext(value, _WORD) if signed else builder.zext(value, _WORD)

    return (types.float64 if floats else types.intp)(array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + width] = value."""
    if not isinstance(value, Lanes):
        return None

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, sig.args[0], values[0], values[1], value), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _splat(kind: Any) -> Any:
    return kind(types.float64), lambda context, builder, sig, values: _spread(builder, values[0], kind)


@intrinsic
def splat_block(typing_context: Any, value: Any) -> Any:
    """The float in every lane of a Block."""
    return _splat(Block)


@intrinsic
def splat_octet(typing_context: Any, value: Any) -> Any:
    """The float in every lane of an Octet."""
    return _splat(Octet)


@intrinsic
def splat_tile(typing_context: Any, value: Any) -> Any:
    """The float in every lane of a Tile."""
    return _splat(Tile)


def _part(builder: Any, v: Any, w: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(v, w, ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes))


@intrinsic
def total(typing_context: Any, x: Any) -> Any:
    """The sum of the lanes, halving: lane j + lane j + width / 2, and so on."""
    if not isinstance(x, Lanes):
        return None

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        v, half = values[0], x.width // 2
        while half:
            low, high = list(range(half)), list(range(half, 2 * half))
            v, half = builder.fadd(_part(builder, v, v, low), _part(builder, v, v, high)), half // 2
        return builder.extract_element(v, ir.Constant(_INDEX, 0))

    return types.float64(x), generate


@intrinsic
def added_octets(typing_context: Any, x: Any) -> Any:
    """Lanes 0 to 7 of x, plus lanes 8 to 15, and so on, one after the other."""
    if not isinstance(x, Lanes):
        return None

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        octets = [_part(builder, values[0], values[0], list(range(at, at + OCTET))) for at in range(0, x.width, OCTET)]
        return functools.reduce(builder.fadd, octets)

    return Octet(x), generate


@intrinsic
def transposed_sums(
    typing_context: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any
) -> Any:  # fmt: skip
    """The octet whose lanes are the sums of a, ..., h, each ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))."""

    def generate(context: Any, builder: Any, sig: Any, v: Any) -> Any:
        def folded(x: Any, y: Any, left: list[int], right: list[int]) -> Any:
            return builder.fadd(_part(builder, x, y, left), _part(builder, x, y, right))

        even, odd = [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15]
        pairs = [folded(v[i], v[i + 1], even, odd) for i in range(0, 8, 2)]
        low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
        fours = [folded(pairs[i], pairs[i + 1], low, high) for i in range(0, 4, 2)]
        return folded(fours[0], fours[1], [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])

    return Octet(*[Octet] * 8), generate

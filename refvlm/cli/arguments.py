"""Arguments that several commands share, and what they say about themselves."""

from __future__ import annotations

import argparse
import math

Rows = range | None
"""A choice of rows; None for all of them."""


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    return _integer(text, 1)


def count(text: str) -> int:
    """An integer of at least 0, for argparse."""
    return _integer(text, 0)


def _integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted an integer") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"got {value}, wanted at least {least}")
    return value


def number(text: str) -> float:
    """A finite number, for argparse."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted a finite number")
    return value


def widths(text: str) -> tuple[int, ...]:
    """'8', '8,1' or 'none', for argparse."""
    return () if text == "none" else tuple(positive(part) for part in text.split(","))


def latents(text: str) -> tuple[int, ...] | str:
    """'8', '8,1' or 'auto', for argparse."""
    return text if text == "auto" else widths(text)


def row_range(text: str) -> Rows:
    """'all', the first 'N', or 'A:B' for rows A to B - 1, for argparse."""
    if text == "all":
        return None
    start, colon, stop = text.partition(":")
    if not colon:
        return range(count(start))
    return range(count(start), count(stop))


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers."""
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="W",
        help="threads (default: all available cores); the results have the same bits for any number",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line; numbers in full; what is not finite as the strings Infinity, -Infinity, NaN",
    )

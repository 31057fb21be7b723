"""The equations of the lesson as MathML, by their numbers, from a few words for its elements."""

from __future__ import annotations

from html import escape


def name(text: str) -> str:
    """A letter, or a name of several."""
    return f"<mi>{escape(text)}</mi>"


def sign(text: str) -> str:
    """An operator, a bracket, a comma."""
    return f"<mo>{escape(text)}</mo>"


def number(text: str) -> str:
    """A number."""
    return f"<mn>{text}</mn>"


def row(*parts: str) -> str:
    """Parts side by side."""
    return f"<mrow>{''.join(parts)}</mrow>"


def sub(base: str, index: str) -> str:
    """With an index."""
    return f"<msub>{base}{index}</msub>"


def power(base: str, exponent: str) -> str:
    """With an exponent."""
    return f"<msup>{base}{exponent}</msup>"


def fraction(above: str, below: str) -> str:
    """One over the other."""
    return f"<mfrac>{above}{below}</mfrac>"


def over(symbol: str, low: str, high: str = "") -> str:
    """A sum or product with its limits."""
    return f"<munderover>{sign(symbol)}{low}{high}</munderover>" if high else f"<munder>{sign(symbol)}{low}</munder>"


def of(function: str, *arguments: str) -> str:
    """A function of arguments in round brackets."""
    return row(name(function), sign("("), *arguments, sign(")"))


def lines(*rows: str) -> str:
    """One below the other, for narrow screens."""
    return f"<mtable>{''.join(f'<mtr><mtd>{each}</mtd></mtr>' for each in rows)}</mtable>"


X, Z, Q, PHI, BETA, THETA = (name(letter) for letter in ("x", "z", "q", "φ", "β", "θ"))
LOG = row(name("log"), '<mspace width="0.17em"/>')
Z_K, PHI_K, BETA_K = (sub(letter, name("k")) for letter in (Z, PHI, BETA))
GIVEN, EQUALS, PLUS, MINUS = (sign(each) for each in ("|", "=", "+", "−"))


def p(*arguments: str) -> str:
    """A probability under the model."""
    return of("p", *arguments)


def q(*arguments: str) -> str:
    """A probability under q."""
    return of("q", *arguments)


def log(argument: str) -> str:
    """Its logarithm."""
    return row(LOG, argument)


def expectation(*inside: str) -> str:
    """Over z under q."""
    return row(sub(name("E"), Q), sign("["), *inside, sign("]"))


def bits(probability: str) -> str:
    """The product of Bernoullis, eqs. (1) and (4)."""
    off = row(sign("("), number("1"), MINUS, probability, sign(")"))
    product = over("∏", row(name("k"), EQUALS, number("1")), name("K"))
    return row(product, power(probability, Z_K), power(off, row(number("1"), MINUS, Z_K)))


SUM = over("∑", Z)
KL = row(name("KL"), sign("("), Q, sign("‖"), p(Z, GIVEN, X), sign(")"))
VLB = expectation(log(p(Z)), PLUS, log(p(X, GIVEN, Z)), MINUS, log(q(Z)))

EQUATIONS = {
    1: row(p(Z), EQUALS, bits(BETA_K)),
    2: row(
        p(X, GIVEN, Z), EQUALS, over("∏", row(name("i"), EQUALS, number("1")), name("L")), name("Bernoulli"), sign("("),
        sub(X, name("i")), sign(";"), name("σ"), sign("("), sub(name("a"), name("i")), sign("("), Z, sign(")"),
        sign(")"), sign(")"),
    ),
    3: row(log(p(X)), EQUALS, LOG, SUM, p(X, GIVEN, Z), p(Z)),
    4: row(q(Z, sign(";"), PHI, sign("("), X, sign(")")), EQUALS, bits(PHI_K)),
    5: row(
        THETA, sign("←"), over("arg max", THETA), over("∑", name("n")),
        log(p(sub(X, name("n")), sign(";"), THETA)),
    ),
    6: row(p(X), EQUALS, fraction(row(p(X, GIVEN, Z), p(Z)), p(Z, GIVEN, X)), sign("for every"), Z),
    7: lines(
        KL, row(EQUALS, expectation(log(q(Z)), MINUS, log(p(X, GIVEN, Z)), MINUS, log(p(Z)))), row(PLUS, log(p(X)))
    ),
    8: lines(row(log(p(X)), EQUALS), VLB, row(PLUS, KL)),
    9: row(
        sub(name("E"), row(X, sign("∼"), name("data"))), sign("["), name("VLB"), sign("("), X, sign(")"), sign("]"),
        sign("≤"), sub(name("E"), row(X, sign("∼"), name("data"))), sign("["), log(p(X)), sign("]"),
    ),
    10: lines(
        row(name("VLB"), EQUALS, expectation(log(p(Z, sign(";"), BETA)))),
        row(PLUS, expectation(log(p(X, GIVEN, Z, sign(";"), THETA)))),
        row(PLUS, expectation(MINUS, log(q(Z, sign(";"), PHI)))),
    ),
}  # fmt: skip
"""By number, without the number."""

_SHARE = fraction(p(X, sign(","), Z), p(X))
STEPS = {
    "divergence": row(
        name("KL"), sign("("), Q, sign("‖"), name("r"), sign(")"), EQUALS, SUM, q(Z), log(fraction(q(Z), of("r", Z))),
    ),
    "slope": row(sign("∇"), log(p(X)), EQUALS, SUM, _SHARE, sign("∇"), log(p(X, sign(","), Z))),
    "steps": lines(
        row(KL, EQUALS, expectation(log(q(Z)), MINUS, log(p(Z, GIVEN, X)))),
        row(EQUALS, expectation(log(q(Z)), MINUS, log(fraction(row(p(X, GIVEN, Z), p(Z)), p(X))))),
        row(EQUALS, sub(name("E"), Q), sign("["), log(q(Z)), MINUS, log(p(X, GIVEN, Z)), MINUS, log(p(Z))),
        row(PLUS, log(p(X)), sign("]")),
    ),
}  # fmt: skip
"""What lies between: by a word."""


def inline(markup: str) -> str:
    """In a line of text."""
    return f"<math>{markup}</math>"


def display(markup: str) -> str:
    """On a line of its own."""
    return f'<math display="block">{markup}</math>'

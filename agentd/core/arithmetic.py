"""Finds one arithmetic question in a text and works it out, exactly and within bounds.

Values are fractions, so 0.1 + 0.2 is 0.3. The text comes from anyone: only numbers and the six operators are evaluated,
and length, exponent and size of a value are bounded, so that no question costs more than some microseconds.
"""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

ASKED_CHARS_MAX = 500  # of the text are looked at: the patterns are quadratic at worst
EXPRESSION_CHARS_MAX = 120
EXPONENT_MAX = 64
VALUE_BITS_MAX = 512
DIGITS_SHOWN = 12

_WORDS = (
    (r"\bplus\b", "+"), (r"\bminus\b", "-"), (r"\btimes\b|\bmultiplied by\b|[×·]|(?<=\d)\s*x\s*(?=\d)", "*"),
    (r"\bdivided by\b|\bover\b|÷", "/"), (r"\bto the power of\b|\^", "**"), (r"\bmodulo\b|\bmod\b", " mod "),
    (r"%\s*of\b", "/100*"), (r"(?<=\d),(?=\d{3}\b)", ""), (r" mod ", "%"),
)  # fmt: skip
# Without one of these there is nothing to work out. Looking for them first spares most texts nine substitutions.
_SIGNS = (*"+-*/%^×·÷", "plus", "minus", "times", "multiplied", "divided", "over", "power", "mod")
_BY = re.compile(r"\d\s*x")
_RUN = re.compile(r"[-+(]*\s*[\d.][\d.\s()+*/%-]*[\d)]")
_ASKS = re.compile(
    r"\b(what(?:'s| is| are)|how much|calculate|compute|evaluate|solve|work out|add|result of|value of)\b|=\s*\??\s*$",
    re.I,
)
_DATE_LIKE = re.compile(r"\d+(?:[-/.]\d+){2,}")
_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def worked_out(text: str) -> tuple[str, str] | None:
    """(expression, value) of the arithmetic that `text` asks for, or None when it asks for none."""
    text = text[:ASKED_CHARS_MAX]
    if not any(character.isdigit() for character in text):
        return None
    folded = text.casefold()
    if not any([sign in folded for sign in _SIGNS]) and not _BY.search(folded):
        return None
    plain = text
    for words, sign in _WORDS:
        plain = re.sub(words, sign, plain, flags=re.IGNORECASE)
    runs = [run.group().strip() for run in _RUN.finditer(plain)]
    candidates = [run for run in runs if re.search(r"\d[\s)]*[-+*/%]+[\s(+-]*[\d.]", run)]
    if not candidates:
        return None
    expression = max(candidates, key=len)
    whole = plain.strip().rstrip("=? .!") == expression
    if not (whole or _ASKS.search(text)) or _DATE_LIKE.fullmatch(expression.replace(" ", "")):
        return None
    return _shown_as(expression), _answer(expression)


def evaluate(expression: str) -> Fraction:
    """The value of an expression of numbers, + - * / % ** and parentheses.

    Raises:
        ValueError: with a sentence, when it is no such expression, divides by zero or grows beyond the bounds.
    """
    if len(expression) > EXPRESSION_CHARS_MAX:
        raise ValueError("the expression is too long for me")
    try:
        tree = ast.parse(re.sub(r"\b0+(?=\d)", "", expression), mode="eval")
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("that is not a complete expression") from None
    return _value(tree.body)


def _answer(expression: str) -> str:
    try:
        return _number(evaluate(expression))
    except ValueError as error:
        return f"no number ({error})"


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(Fraction(repr(number)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            second = _value(right)
            if second == 0 and isinstance(sign, ast.Div | ast.Mod):
                raise ValueError("it divides by zero")
            return _bounded(_BINARY[type(sign)](_value(left), second))
    raise ValueError("that is not a complete expression")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > EXPONENT_MAX:
        raise ValueError(f"I only take whole exponents up to {EXPONENT_MAX}")
    if base == 0 and exponent < 0:
        raise ValueError("it divides by zero")
    return _bounded(Fraction(base ** int(exponent)))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > VALUE_BITS_MAX:
        raise ValueError("the numbers grow too large for me")
    return value


def _number(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.{DIGITS_SHOWN}g}"  # any fraction within VALUE_BITS_MAX is a float


def _shown_as(expression: str) -> str:
    spaced = re.sub(r"\s*(\*\*|[*/%])\s*", r" \1 ", expression)
    return re.sub(r"(?<=[\d)])\s*([-+])\s*", r" \1 ", " ".join(spaced.split()))

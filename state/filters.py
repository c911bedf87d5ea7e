"""The expression language of filters and rules: ``category in ["a", "b"] and not (price < 20)``.

Grammar, loosest first::

    any        = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" any ")" | comparison
    comparison = name ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value
               | name [ "not" ] "in" "[" value { "," value } "]"
    value      = "text" | 'text' | number | true | false | null

Nothing is ever called, looked up outside of an item, or nested deeper than `DEPTH`.
"""

import math
import re
from functools import lru_cache
from typing import Literal, NamedTuple

from msgspec import Struct

from state.decoding import Refusal

LENGTH, DEPTH, LIST, COMPARISONS = 2_048, 16, 200, 64
"""Characters, nested brackets and nots, values of one list, and comparisons of an expression at most."""

Value = str | float | bool | None
Operator = Literal["==", "<", "<=", ">", ">="]


class Compare(Struct, frozen=True):
    """One attribute beside one value."""

    name: str
    operator: Operator
    value: Value


class Among(Struct, frozen=True):
    """One attribute among some values."""

    name: str
    values: tuple[Value, ...]


class Not(Struct, frozen=True):
    """What an expression does not hold for."""

    of: "Expression"


class All(Struct, frozen=True):
    """What every one of some expressions holds for."""

    of: tuple["Expression", ...]


class Any(Struct, frozen=True):
    """What at least one of some expressions holds for."""

    of: tuple["Expression", ...]


Expression = Compare | Among | Not | All | Any

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\["'\\])*"|'(?:[^'\\]|\\["'\\])*')
    |(?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)(?![A-Za-z_0-9.])
    |(?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<quoted>`[^`]{1,64}`)
    |(?P<mark>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)
    |(?P<end>\Z)
    )""",
    re.VERBOSE,
)
_RESERVED = ("and", "or", "not", "in", "true", "false", "null")
_ORDERS = ("<", "<=", ">", ">=")
_ESCAPED = re.compile(r"\\(.)")
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@lru_cache(maxsize=512)
def parse_filter(text: str) -> Expression:
    """Return what an expression says.

    Raises
    ------
    Refusal
        Naming the position, what stands there and what is wished.
    """
    if len(text) > LENGTH:
        raise Refusal("bad_filter", "filter", f"{len(text)} characters", f"at most {LENGTH} characters")
    return _Parser(text).whole()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise _refused(text, at, "a name, a value in quotes, a number, an operator or a bracket")
        found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return found


def _refused(text: str, at: int, wished: str) -> Refusal:
    met = text[at : at + 20] or "the end"
    return Refusal("bad_filter", "filter", met, f"at character {at + 1}: {wished}")


class _Parser:
    """One pass over the tokens of an expression."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, _tokens(text)
        self._next, self._depth, self._comparisons = 0, 0, 0

    def whole(self) -> Expression:
        found = self._any()
        if self._here.kind != "end":
            raise self._wishes("'and', 'or' or the end")
        return found

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _wishes(self, wished: str) -> Refusal:
        return _refused(self._text, self._here.at, wished)

    def _word(self) -> str:
        """Return the reserved word that stands here, in lower case; empty for anything else."""
        word = self._here.text.lower() if self._here.kind == "word" else ""
        return word if word in _RESERVED else ""

    def _takes(self, wanted: str) -> bool:
        is_here = self._word() == wanted or (self._here.kind == "mark" and self._here.text == wanted)
        self._next += is_here
        return is_here

    def _any(self) -> Expression:
        parts = [self._all()]
        while self._takes("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _all(self) -> Expression:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Expression:
        self._depth += 1
        if self._depth > DEPTH:
            raise self._wishes(f"at most {DEPTH} brackets and nots inside each other")
        if self._takes("not"):
            found: Expression = Not(self._one())
        elif self._takes("("):
            found = self._any()
            if not self._takes(")"):
                raise self._wishes("')', 'and' or 'or'")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Expression:
        self._comparisons += 1
        if self._comparisons > COMPARISONS:
            raise self._wishes(f"at most {COMPARISONS} comparisons")
        name = self._name()
        if self._takes("not"):
            if not self._takes("in"):
                raise self._wishes("'in'")
            return Not(Among(name, self._list()))
        if self._takes("in"):
            return Among(name, self._list())
        operator = self._operator()
        if operator == "!=":
            return Not(Compare(name, "==", self._value()))
        if operator in _ORDERS and self._here.kind != "number":
            raise self._wishes(f"a number, as '{operator}' has no other order")
        return Compare(name, operator, self._value())  # type: ignore[arg-type]

    def _name(self) -> str:
        token = self._here
        if token.kind not in ("word", "quoted") or self._word():
            raise self._wishes("the name of an attribute, in `backticks` where it is no plain word")
        self._next += 1
        return token.text.strip("`")

    def _operator(self) -> str:
        token = self._here
        if token.kind != "mark" or token.text not in ("==", "!=", *_ORDERS):
            raise self._wishes("one of ==, !=, <, <=, >, >=, in, not in")
        self._next += 1
        return token.text

    def _list(self) -> tuple[Value, ...]:
        if not self._takes("["):
            raise self._wishes("'[' and a list of values")
        values = [self._value()]
        while self._takes(","):
            if len(values) == LIST:
                raise self._wishes(f"at most {LIST} values in a list")
            values.append(self._value())
        if not self._takes("]"):
            raise self._wishes("',' or ']'")
        return tuple(values)

    def _value(self) -> Value:
        token = self._here
        word = self._word()
        if token.kind == "text":
            value: Value = _ESCAPED.sub(r"\1", token.text[1:-1])
        elif token.kind == "number" and math.isfinite(float(token.text)):
            value = float(token.text)
        elif word in _CONSTANTS:
            value = _CONSTANTS[word]
        else:
            raise self._wishes("a value: text in quotes, a number, true, false or null")
        self._next += 1
        return value

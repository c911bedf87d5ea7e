"""Filter expressions: what they say, what is refused, and masks that stay true as the catalogue changes."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.filters import MOST, Filters, evaluate
from serving.items import CHANGES_KEPT, ItemTable
from state.decoding import Refusal
from state.events import Item
from state.filters import COMPARISONS, DEPTH, LENGTH, LIST, All, Among, Compare, Not, parse_filter
from state.filters import Any as Either
from tests.serving.world import item
from tests.stream.folding import AT

NAMES = ("category", "brand", "price", "tags", "sale", "attributes.brand", "item_id", "published_at")
TEXTS = ("a", "b", 'quo"ted', "it's", "back\\slash", "i1", "i2")
VALUES = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from([0.0, 1.0, 2.5, -3.0, 1e3]), st.booleans(), st.none()
)

ITEMS = st.builds(
    lambda number, categories, attributes, published: item(
        number, categories=categories, attributes=attributes, published_at=published
    ),
    st.integers(0, 11),
    st.lists(st.sampled_from(TEXTS), max_size=3, unique=True),
    st.dictionaries(
        st.sampled_from(["brand", "price", "tags", "sale"]),
        st.one_of(
            st.sampled_from(TEXTS), st.sampled_from([0.0, 1, 2.5, -3.0]), st.booleans(), st.none(),
            st.lists(st.sampled_from(TEXTS), max_size=3),
        ),
    ),
    st.sampled_from([None, AT, AT + 5]),
)  # fmt: skip

EXPRESSIONS = st.recursive(
    st.one_of(
        st.builds(Compare, st.sampled_from(NAMES), st.just("=="), VALUES),
        st.builds(
            Compare,
            st.sampled_from(NAMES),
            st.sampled_from(["<", "<=", ">", ">="]),
            st.sampled_from([0.0, 1.0, 2.5, float(AT)]),
        ),
        st.builds(Among, st.sampled_from(NAMES), st.lists(VALUES, min_size=1, max_size=3).map(tuple)),
    ),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Either, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def text_of(expression: Any) -> str:
    """Write an expression down, with all brackets."""
    match expression:
        case Compare(name, operator, value):
            return f"{name} {operator} {literal(value)}"
        case Among(name, values):
            return f"{name} in [{', '.join(map(literal, values))}]"
        case Not(of):
            return f"not ({text_of(of)})"
        case All(parts):
            return " and ".join(f"({text_of(part)})" for part in parts)
        case Either(parts):
            return " or ".join(f"({text_of(part)})" for part in parts)
    raise AssertionError(expression)


def literal(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return (
        {True: "true", False: "false", None: "null"}[value]
        if value in (None, True, False) and not isinstance(value, float)
        else repr(value)
    )


def holds(expression: Any, one: Item) -> bool:
    """Evaluate an expression for one item, slowly."""
    match expression:
        case Not(of):
            return not holds(of, one)
        case All(parts):
            return all(holds(part, one) for part in parts)
        case Either(parts):
            return any(holds(part, one) for part in parts)
        case Compare(name, "==", value):
            return is_among(one, name, [value])
        case Among(name, values):
            return is_among(one, name, values)
        case Compare(name, operator, value):
            held = [v for v in held_of(one, name) if isinstance(v, float)]
            assert isinstance(value, float)
            orders = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}
            return any(orders[operator](v, value) for v in held)
    raise AssertionError(expression)


def is_among(one: Item, name: str, values: Any) -> bool:
    held = held_of(one, name)
    same = any(type(v) is type(w) and v == w for v in held for w in values)
    return same or (None in values and not held and name != "item_id")


def held_of(one: Item, name: str) -> list[Any]:
    if name == "category":
        return list(one.categories)
    if name == "item_id":
        return [one.item_id]
    if name == "published_at":
        return [] if one.published_at is None else [float(one.published_at)]
    value = one.attributes.get(name.removeprefix("attributes."))
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS)
def test_what_is_written_down_is_read_back_as_it_was_meant(expression: Any) -> None:
    assert parse_filter(text_of(expression)) == expression


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, st.lists(ITEMS, max_size=12), st.lists(ITEMS, max_size=6), st.integers(0, 3))
def test_a_mask_says_of_every_item_what_the_expression_says_and_follows_every_change(
    expression: Any, first: list[Item], later: list[Item], removed: int
) -> None:
    items, text = ItemTable(2), text_of(expression)
    filters = Filters(items)
    latest: dict[str, Item] = {}
    for batch in (first, later):
        for one in batch:
            items.put(one)
            latest[one.item_id] = one
        items.remove(f"i{removed}")
        mask = filters.mask(text)
        for item_id, one in latest.items():
            assert mask[items.row(item_id)] == holds(expression, one), (text, one)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet=' ()[]<>=!"\\`and or not in price,1.e', max_size=80))
def test_any_text_is_an_expression_or_a_refusal_that_says_where(text: str) -> None:
    said = ""
    try:
        parse_filter(text)
    except Refusal as refusal:
        said = f"{refusal.reason} {refusal}"
    assert said == "" or (said.startswith("bad_filter") and "at character" in said)


@pytest.mark.parametrize(
    ("text", "position", "wished"),
    [
        ("", 1, "the name of an attribute"),
        ("price", 6, "one of =="),
        ("price < ", 9, "a number"),
        ('price < "a"', 9, "a number, as '<'"),
        ("price = 3", 7, "a name, a value"),
        ("a == 1 or", 10, "the name of an attribute"),
        ("(a == 1", 8, "')'"),
        ("a == 1)", 7, "the end"),
        ("a in 3", 6, "'['"),
        ("a in []", 7, "a value"),
        ("a in [1 2]", 9, "',' or ']'"),
        ("a not == 1", 7, "'in'"),
        ('a == "b', 6, "a name, a value"),
        ("a == 1e999", 6, "a value"),
        ("a == 1 b == 2", 8, "'and', 'or'"),
        ("and == 1", 1, "the name of an attribute"),
        ("__import__('os')", 11, "one of =="),
    ],
)
def test_a_refusal_names_the_position_and_what_is_wished(text: str, position: int, wished: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_filter(text)
    assert f"at character {position}: " in str(refused.value)
    assert wished in str(refused.value)


def test_expressions_beyond_their_bounds_are_refused_and_those_at_them_are_not() -> None:
    def nested(depth: int) -> str:
        return "(" * (depth - 1) + "a == 1" + ")" * (depth - 1)

    bounds: list[tuple[Any, int]] = [
        (nested, DEPTH),
        (lambda n: "a in [" + ", ".join(["1"] * n) + "]", LIST),
        (lambda n: " or ".join(["a == 1"] * n), COMPARISONS),
        (lambda n: "a == 1" + " " * (n - 6), LENGTH),
    ]
    for make, most in bounds:
        parse_filter(make(most))
        with pytest.raises(Refusal, match=f"at most {most}"):
            parse_filter(make(most + 1))


def test_a_hostile_expression_is_refused_at_once() -> None:
    for text in ("(" * 2_000, "not " * 500, '"' * 2_047, "a" * 2_048, "[" * 2_048, '"\\' * 1_000):
        with pytest.raises(Refusal):
            parse_filter(text)


def test_words_are_read_in_any_case_and_odd_names_in_backticks() -> None:
    assert parse_filter("a == 1 AND NOT b == 2") == All(
        (Compare("a", "==", 1.0), Not(Compare("b", "==", 2.0)))
    )
    assert parse_filter("`in stock` == true") == Compare("in stock", "==", True)
    assert parse_filter("a != 'x' or b not in ['y', null]") == Either(
        (Not(Compare("a", "==", "x")), Not(Among("b", ("y", None))))
    )


def test_only_so_many_masks_are_held_and_one_used_again_stays() -> None:
    items = ItemTable(2)
    items.put(item(1, attributes={"price": 3.0}))
    filters = Filters(items)
    for number in range(2 * MOST):
        filters.mask("price < 5")
        filters.mask(f"price < {number}")
    assert len(filters) == MOST
    assert filters.mask("price < 5") is filters.mask("price < 5")


def test_a_mask_is_right_after_more_changes_than_are_remembered_and_after_the_table_has_grown() -> None:
    items, rng = ItemTable(2), random.Random(1)
    filters = Filters(items)
    for number in range(40):
        items.put(item(number, attributes={"price": number}))
    before = filters.mask("price < 20").sum()
    for _ in range(CHANGES_KEPT + 10):
        items.put(item(rng.randrange(40), attributes={"price": 50}))
    for number in range(40, 300):
        items.put(item(number, attributes={"price": 1}))
    mask = filters.mask("price < 20")
    fresh = evaluate(parse_filter("price < 20"), items, slice(0, len(items.available)))
    np.testing.assert_array_equal(mask, fresh)
    assert (before, mask.sum()) == (20, 260 + np.count_nonzero(fresh[:40]))


@settings(deadline=None, max_examples=25)
@given(items=st.lists(ITEMS, max_size=12), later=st.lists(ITEMS, max_size=6))
def test_what_is_allowed_is_what_is_wished_without_what_hides_and_follows_every_change(
    items: list[Item], later: list[Item]
) -> None:
    table, hides = ItemTable(4), ["price < 1", 'category == "a"']
    filters = Filters(table)
    assert filters.allowed(None, []) is None
    for change in (items, later):
        for one in change:
            table.put(one)
        hidden = filters.mask(hides[0]) | filters.mask(hides[1])
        for wished, within in ((None, ~hidden), ('brand == "b"', filters.mask('brand == "b"') & ~hidden)):
            np.testing.assert_array_equal(filters.allowed(wished, hides), within)

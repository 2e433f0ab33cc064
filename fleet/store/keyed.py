"""Rows by keys of several columns, found by the index.

SQLite searches no index for `(a, b) IN (VALUES …)` of more than one row: it reads the whole
table. The keys as a table of their own, on the left of an outer join, are read first, and each
is one search.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import CTE, ColumnElement, FromClause, Join, Table, and_, column, values

_AT_ONCE = 500
"""Keys in one statement: a bound of its parameters, of which SQLite takes 32,766."""


def joined(
    table: Table, names: Sequence[str], keys: Sequence[tuple[object, ...]]
) -> Iterator[tuple[CTE, Join]]:
    """Return the keys as tables, and each joined to the rows that are there; of none, nothing.

    A key without a row is there too, with nulls for the row's columns.
    """
    for begin in range(0, len(keys), _AT_ONCE):
        few = list(keys[begin : begin + _AT_ONCE])
        asked = values(*(column(name, table.c[name].type) for name in names), name="asked")
        wanted = asked.data(few).cte("wanted")
        yield wanted, wanted.outerjoin(table, _same(wanted, table, names))


def _same(left: FromClause, right: FromClause, names: Sequence[str]) -> ColumnElement[bool]:
    return and_(*(left.c[name] == right.c[name] for name in names))

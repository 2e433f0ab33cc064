"""The order of what shall be published: each change gets the store's next *position*.

The link asks for all that changed above one, and keeps the one it has reached in
the broker itself.
"""

from sqlalchemy import Connection, select, update

from fleet.store.tables import store_state


def next_position(connection: Connection) -> int:
    """Give out the next position, in the transaction of the change that has it."""
    raised = connection.execute(
        update(store_state)
        .values(position=store_state.c.position + 1)
        .returning(store_state.c.position)
    )
    return int(raised.scalar_one())


def head(connection: Connection) -> int:
    """Return the position of the latest change; 0: there was none."""
    return int(connection.execute(select(store_state.c.position)).scalar_one())


def store_id(connection: Connection) -> str:
    """Return the id this store was made with: positions of another store mean nothing here."""
    return str(connection.execute(select(store_state.c.id)).scalar_one())

"""The API's reference: its OpenAPI document, written from the application itself."""

import json
import tempfile
from pathlib import Path

from fleet import clock
from fleet.api.access import Access
from fleet.api.app import create
from fleet.api.parts import Alerting, Content, Parts
from fleet.chronicle import Chronicle
from fleet.commands import Commands
from fleet.execute import Executor
from fleet.identity import authority
from fleet.identity.join import Reachable
from fleet.identity.places import Home
from fleet.lookout import Lookout
from fleet.receivers.delivery import Delivery
from fleet.roll import Roll
from fleet.store.engine import Store
from fleet.tuning import Tuner
from models.keys import SigningKey, load_public
from models.layout import Layout


def render() -> str:
    """Return the OpenAPI document, as `docs/reference/openapi.json` has it.

    It is the document of a centre that is made for this and thrown away: there
    is no second description that could differ from what is served.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-reference-") as folder:
        home = Home(Path(folder) / "home")
        authority.init(home.path, fleet="reference", hosts=[], now=clock.now())
        store = Store.open(home.store)
        roll = Roll(store, "reference")
        key = SigningKey.load(home.desired_key)
        try:
            app = create(
                Parts(
                    access=Access("reference"),
                    authority=authority.Authority.load(home.path),
                    store=store,
                    roll=roll,
                    content=Content(
                        layout=Layout.create(home.registry),
                        keys=[load_public(home.bundle_public)],
                    ),
                    executor=Executor(
                        roll=roll,
                        store=store,
                        key=key,
                        clock=clock.now,
                        changed=lambda: None,
                        connected=lambda: True,
                        chronicle=Chronicle(store),
                    ),
                    tuner=Tuner(
                        fleet="reference",
                        store=store,
                        key=key,
                        clock=clock.now,
                        changed=lambda: None,
                    ),
                    commands=Commands(
                        fleet="reference",
                        store=store,
                        key=key,
                        clock=clock.now,
                        changed=lambda: None,
                        answers_at="",
                    ),
                    alerting=Alerting(
                        lookout=Lookout(
                            store=store,
                            roll=roll,
                            clock=clock.now,
                            connected=lambda: False,
                            certificates={},
                            changed=lambda: None,
                        ),
                        delivery=Delivery(
                            fleet="reference",
                            store=store,
                            clock=clock.now,
                            file=home.receivers,
                            publish=_nowhere,
                        ),
                    ),
                    reachable=Reachable(broker_url="", registry_url=""),
                    clock=clock.now,
                    connected=lambda: False,
                )
            )
            return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"
        finally:
            store.close()


async def _nowhere(topic: str, payload: bytes) -> None:
    """Publish nothing: there is no broker."""
    del topic, payload

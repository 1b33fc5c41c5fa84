"""The `Door` of the server: an upgrade is checked, its session brought in, and a client put behind its socket."""

from collections.abc import Callable

from agentd.edge.auth import read_upgrade
from agentd.edge.client import Client
from agentd.edge.door import Peer, Socket, Upgrade
from agentd.edge.reception import Reception


class Gateway:
    """Admits WebSockets."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def admit(self, upgrade: Upgrade) -> Callable[[Socket], Peer]:
        """Decide on an upgrade. The session is there before the handshake is answered, so that the greeting follows
        at once and nothing slow stands before it (S1)."""
        reception = self._reception
        request = read_upgrade(upgrade, reception.auth)
        reception.check_open()
        session = request.session or reception.clock.new_id("s")
        if request.principal is None:
            return lambda socket: Client(reception, socket, request, session)
        actor = await reception.find(session, request)

        def enter(socket: Socket) -> Peer:
            client = Client(reception, socket, request, session)
            client.enter(reception.present(actor), None, request)
            return client

        return enter

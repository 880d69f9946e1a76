"""Which TCP connections lead to the graph servers of which partition.

DGL has two to each server: a trainer asks over the one that it opened to the server's port; the
server answers over one that it opened to a port of the trainer's, the same for all servers.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dgl.distributed import kvstore

from rudder.training.wire.tcp import Address, Connection, connections_of_this_process


@dataclass(frozen=True)
class ServerLink:
    """The connections to the servers of one partition: those of questions, those of answers."""

    questions: tuple[Connection, ...]
    answers: tuple[Connection, ...]

    @property
    def min_round_trip_s(self) -> float:
        """Shortest that the kernel saw, 0 where it saw none."""
        seen = [connection.min_round_trip_s for connection in self.questions + self.answers]
        return min((seconds for seconds in seen if seconds is not None), default=0.0)

    def limit_window(self, num_bytes: int) -> None:
        """Let the partition's servers have so many bytes under way, an equal part each."""
        for connection in self.answers:
            connection.limit_window(num_bytes // len(self.answers))


def server_links() -> Mapping[int, ServerLink]:
    """Links by partition, of those that lie behind a network; none where there is no DistDGL."""
    return find_links(_servers(), connections_of_this_process())


def find_links(
    servers: Mapping[int, Sequence[Address]], connections: Sequence[Connection]
) -> Mapping[int, ServerLink]:
    """Sort connections by partition; servers: addresses of each partition's servers.

    Partitions on this host, on a loopback device, or whose connections are not found are left out.
    """
    from_servers = _from_servers(servers, connections)
    links: dict[int, ServerLink] = {}
    for part, addresses in servers.items():
        ips = {address.ip for address in addresses}
        answers = tuple(each for each in from_servers if each.peer.ip in ips)
        questions = tuple(each for each in connections if each.peer in addresses)
        if answers and all(_crosses_a_network(each) for each in answers):
            links[part] = ServerLink(questions, answers)
    return links


def _from_servers(
    servers: Mapping[int, Sequence[Address]], connections: Sequence[Connection]
) -> list[Connection]:
    """Those at the first port that is called from every server's host, once by each server."""
    callers = Counter(address.ip for addresses in servers.values() for address in addresses)
    by_port: dict[int, list[Connection]] = {}
    for connection in connections:
        by_port.setdefault(connection.own.port, []).append(connection)
    for found in by_port.values():
        if Counter(each.peer.ip for each in found) == callers:
            return found
    return []


def _crosses_a_network(connection: Connection) -> bool:
    peer = connection.peer.ip
    return peer != connection.own.ip and not ipaddress.ip_address(peer).is_loopback


def _servers() -> dict[int, list[Address]]:
    """Addresses of graph servers by partition, as DGL was told them."""
    client = kvstore.get_kvstore()
    servers: dict[int, list[Address]] = {}
    for part, ip, port, _ in getattr(client, "_server_namebook", {}).values():
        servers.setdefault(int(part), []).append(Address(str(ip), int(port)))
    return servers

"""Which connections are told apart as those of which partition's servers."""

from __future__ import annotations

from rudder.training.wire.connections import find_links, server_links
from rudder.training.wire.tcp import Address, Connection

_OWN, _FAR, _FARTHER = "10.0.0.1", "10.0.0.2", "10.0.0.3"
_SERVERS = {part: [Address(ip, 30050)] for part, ip in enumerate((_OWN, _FAR, _FARTHER))}
_PORT = 50339


def _connection(fd: int, *, own: int, peer: str, port: int, own_ip: str = _OWN) -> Connection:
    return Connection(fd, inode=1000 + fd, own=Address(own_ip, own), peer=Address(peer, port))


def _questions() -> list[Connection]:
    return [
        _connection(10 + part, own=40000 + part, peer=servers[0].ip, port=30050)
        for part, servers in _SERVERS.items()
    ]


def _answers() -> list[Connection]:
    return [
        _connection(20 + part, own=_PORT, peer=servers[0].ip, port=41000 + part)
        for part, servers in _SERVERS.items()
    ]


def test_partitions_on_other_hosts_have_links() -> None:
    links = find_links(_SERVERS, [*_questions(), *_answers()])
    assert set(links) == {1, 2}
    assert [each.descriptor for each in links[2].answers] == [22]
    assert [each.descriptor for each in links[2].questions] == [12]


def test_connections_among_trainers_are_not_taken_for_servers() -> None:
    among_trainers = [
        _connection(30 + i, own=38347, peer=ip, port=42000) for i, ip in enumerate((_FAR, _FARTHER))
    ]
    links = find_links(_SERVERS, [*among_trainers, *_questions(), *_answers()])
    assert [each.descriptor for each in links[1].answers] == [21]


def test_each_of_several_servers_of_a_partition_is_found() -> None:
    servers = {0: [Address(_OWN, 30050), Address(_OWN, 30051)]}
    servers[1] = [Address(_FAR, 30050), Address(_FAR, 30051)]
    answers = [
        _connection(20 + i, own=_PORT, peer=ip, port=41000 + i)
        for i, ip in enumerate((_OWN, _OWN, _FAR, _FAR))
    ]
    assert [each.descriptor for each in find_links(servers, answers)[1].answers] == [22, 23]


def test_hosts_on_a_loopback_device_have_no_links() -> None:
    servers = {0: [Address("127.0.0.2", 30050)], 1: [Address("127.0.0.3", 30050)]}
    answers = [
        _connection(20 + i, own=_PORT, own_ip="127.0.0.2", peer=ip, port=41000 + i)
        for i, ip in enumerate(("127.0.0.2", "127.0.0.3"))
    ]
    assert find_links(servers, answers) == {}


def test_servers_that_answer_from_other_addresses_have_no_links() -> None:
    answers = [_connection(20 + i, own=_PORT, peer=f"192.168.0.{i}", port=41000) for i in range(3)]
    assert find_links(_SERVERS, [*_questions(), *answers]) == {}


def test_a_process_outside_distdgl_has_no_links() -> None:
    assert server_links() == {}

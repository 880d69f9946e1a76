"""TCP connections that another library has opened in this process and does not hand out.

They are found by descriptor and touched by system calls only: a Python socket around a foreign
descriptor would change its mode where a default timeout is set, and close it when collected.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil

_MIN_RTT_OFFSET = 148
"""Of tcpi_min_rtt, in microseconds, in Linux's struct tcp_info."""
_NO_RTT = 2**32 - 1


@dataclass(frozen=True)
class Address:
    """One end of a connection."""

    ip: str
    port: int


@dataclass(frozen=True)
class Connection:
    """An established connection; inode: what tells it from a later one of the same descriptor."""

    descriptor: int
    inode: int
    own: Address
    peer: Address

    @property
    def min_round_trip_s(self) -> float | None:
        """Shortest time from sending to acknowledgement that the kernel saw; None if unknown."""
        info = ctypes.create_string_buffer(_MIN_RTT_OFFSET + 4)
        size = ctypes.c_uint32(len(info))
        if not self._call("getsockopt", socket.TCP_INFO, info, ctypes.byref(size)):
            return None
        if size.value < len(info):
            return None
        (microseconds,) = struct.unpack_from("=I", info, _MIN_RTT_OFFSET)
        return None if microseconds == _NO_RTT else microseconds / 1e6

    def limit_window(self, num_bytes: int) -> bool:
        """Let the other side have so many bytes under way; False for a closed connection."""
        value = ctypes.c_int(num_bytes)
        size = ctypes.c_uint32(ctypes.sizeof(value))
        return self._call("setsockopt", socket.TCP_WINDOW_CLAMP, ctypes.byref(value), size)

    def _call(self, function: str, option: int, value: Any, size: Any) -> bool:
        if _inode(self.descriptor) != self.inode:
            return False
        call = getattr(_libc(), function)
        return bool(call(self.descriptor, socket.IPPROTO_TCP, option, value, size) == 0)


def connections_of_this_process() -> tuple[Connection, ...]:
    """Established IPv4 connections, in the order of descriptors."""
    found = psutil.Process().net_connections("tcp4")
    established = [each for each in found if each.status == psutil.CONN_ESTABLISHED]
    return tuple(
        Connection(each.fd, inode, own=Address(*each.laddr), peer=Address(*each.raddr))
        for each in sorted(established, key=lambda each: each.fd)
        if (inode := _inode(each.fd)) is not None
    )


def _inode(descriptor: int) -> int | None:
    """None for a closed one."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return None


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)

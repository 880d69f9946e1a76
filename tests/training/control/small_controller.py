"""A stand-in for a controller: asks for 5 rows, then beats until its trainer hangs up.

python small_controller.py SOCKET
"""

import itertools
import select
import sys
from contextlib import suppress
from pathlib import Path

from rudder.training.control import unix_socket
from rudder.training.control.messages import Heartbeat, Subscribe, to_line
from rudder.training.settings import Change, Command

with unix_socket.connect(Path(sys.argv[1]), timeout_s=10) as client:
    change = Command(command_id="five", change=Change(capacity_rows=5), origin="controller")
    client.sendall(to_line(Subscribe(subscribe="windows")) + to_line(change))
    with suppress(ConnectionError):
        for beat in itertools.count():
            if select.select([client], [], [], 0.05)[0] and not client.recv(65536):
                break
            client.sendall(to_line(Heartbeat(heartbeat=beat)))

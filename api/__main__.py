"""`python -m rudder` is the command `rudder`."""

from rudder.cli.main import main

main()

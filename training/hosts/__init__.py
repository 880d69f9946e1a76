"""What a host is, and the two kinds of local hosts: namespaces and plain loopback."""

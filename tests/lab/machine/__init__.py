"""One disposable Debian 13 host in namespaces of this machine, and a neighbour on its network."""

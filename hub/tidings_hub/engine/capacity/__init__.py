"""How much a node takes from its clients: sockets, descriptors, sessions per address, packets per second."""

"""The HTTP and Engine.IO v4 server of a node. One epoll watches all its client sockets."""

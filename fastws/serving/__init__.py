"""A server in a running event loop: its sockets, its lifespan, its log, its figures, the callbacks' tasks."""

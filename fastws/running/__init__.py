"""A process that serves: its loop, its signals, its limits, its graceful end."""

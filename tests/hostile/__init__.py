"""The rows of hostile inputs, each sent over a real socket to a running server."""

"""Client libraries that people use, each driven through one interface against a running server."""

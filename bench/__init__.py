"""fastws beside other WebSocket servers: README.md explains, `python -m bench --help` lists what there is."""

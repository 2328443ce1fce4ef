"""The hub over plain HTTP: the API of backends, health, metrics, and the page of `--dev`."""

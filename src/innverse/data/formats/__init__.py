"""File formats of scientists, each in its own file: `read`, `array` and `write`; see `..files`."""

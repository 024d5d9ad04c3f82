"""The edge inward: the only rooms that touch devices. It asks and reads; it never judges."""

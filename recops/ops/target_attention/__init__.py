"""Room of DIN's activation unit: a target attends over a history."""

"""Room of the pairwise interactions; they share the pair order of `pairs.py`."""

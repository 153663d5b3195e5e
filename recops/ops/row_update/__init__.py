"""Room of the row-sparse optimizers: one step on the rows that a batch used."""

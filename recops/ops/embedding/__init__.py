"""Room of the embedding table: one gather for all fields, and pooled bags of ids."""

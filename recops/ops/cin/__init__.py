"""Room of the compressed interaction network: outer products of field maps, never stored whole."""

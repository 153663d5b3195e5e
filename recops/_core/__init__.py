"""The foundation that the ops and the layers stand on; nothing here is public."""

"""Room of FiBiNET's bilinear interaction."""

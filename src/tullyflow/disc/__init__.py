"""A rotating exponential disc: its profiles, its projection on the sky, and the beam. No network here."""

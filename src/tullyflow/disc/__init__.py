"""Rotating discs: their profiles, their projection on the sky, the beam, and all three maps of any of them. No network here."""

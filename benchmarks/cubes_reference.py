"""Published rotation curves of galaxies whose cubes or maps are compared: (radius in arcsec, V in km/s, inclination corrected)."""

import numpy as np

__all__ = ["NGC_2903_CURVE", "NGC_4047_CURVE"]

_ARCSEC_PER_KPC = 206.265 / 6.6  # at the 6.6 Mpc SPARC takes

# NGC 2903: SPARC (Lelli, McGaugh & Schombert 2016) after Begeman 1987, i = 66 deg; kpc from 0.32, then every 0.96 beyond 4.8
_KPC = np.concatenate([np.arange(1, 13) * 0.32, np.arange(5, 27) * 0.96])
_KMS = np.array([
    44, 64, 128, 148, 157, 189, 195, 201, 214, 215, 215, 216,
    214, 210, 205, 203, 201, 201, 199, 197, 196, 193, 190, 188, 187, 188, 186, 185, 185, 181, 178, 177, 182, 180,
], dtype=float)  # fmt: skip
NGC_2903_CURVE = _KPC * _ARCSEC_PER_KPC, _KMS

# NGC 4047, CO(1-0): 3D-Barolo on the 7 arcsec cube by EDGE (edge_pydb, bb_smo7_fitvd_dilmsk: i = 41.3, PA 284.0, radio LSRK),
# here as velocities of the galaxy's own: a radio velocity's difference times 1 + z
_Z_4047 = 0.01145
NGC_4047_CURVE = np.arange(1.5, 23, 3.0), (1 + _Z_4047) * np.array([140.3, 169.0, 188.6, 203.4, 213.4, 217.8, 221.9, 228.6])

"""From one galaxy's native maps to its stamp: moments, masks, position angle, resampling, shards."""

"""The small tools for one's own files: one map, a table of maps, a cube; no settings file and no workflow needed."""

"""Bring files here whole, and keep an honest list of what was found."""

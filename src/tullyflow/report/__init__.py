"""The report: figures, a gallery of galaxies, and the page that shows them."""

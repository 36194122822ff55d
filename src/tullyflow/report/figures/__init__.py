"""One module per kind of figure, one style; every `plot_…` returns a figure, `style.save_figure` writes it."""

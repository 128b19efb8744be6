"""Colab's kernels have google.colab loaded before the first cell; with this folder on PYTHONPATH so has any Python."""

import google.colab  # noqa: F401

"""Shares the name with other google packages that may be installed."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)

"""Figures of what was measured, for light and dark pages, projectors and paper."""

"""Sphinx: the site's settings. `make docs` fills in the notebooks and the reference first (`tools/site.py`)."""

from importlib.metadata import version as version_of

project = "ti_nb"
author = "the ti_nb authors"
copyright = "the ti_nb authors, Apache-2.0"
release = version = version_of("ti_nb")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design", "sphinx_copybutton"]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # tools/site.py runs the notebooks, and keeps what did not change
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]  # panels: their text stands in for them

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = "ti_nb"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "github_url": "https://github.com/ti-nb/ti_nb",
    "navbar_align": "left",
    "header_links_before_dropdown": 9,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    name: []
    for name in (
        "index",
        "gallery",
        "questions",
        "troubleshooting",
        "training",
        "measuring",
        "models",
        "sharing",
        "panels",
    )
}

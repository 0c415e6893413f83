"""Sphinx configuration."""

from __future__ import annotations

import os
import sys
from importlib.metadata import metadata
from importlib.metadata import version as installed_version
from pathlib import Path
from types import BuiltinMethodType, ClassMethodDescriptorType, MethodDescriptorType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

project = "vmmscvi"
author = "the vmmscvi developers"
copyright = f"2026, {author}"
release = installed_version("vmmscvi")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Prose and notebooks. Notebooks are stored with their outputs: building the pages trains nothing.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
nb_execution_mode = "off"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# Notebooks live where users look for them, in tutorials/; Sphinx reads only what is below its own folder.
# Links that lead to docs/ from there are shorter from here.
HERE = Path(__file__).parent
for notebook in HERE.parent.glob("tutorials/*.ipynb"):
    page = HERE / "tutorials" / notebook.name
    text = notebook.read_text(encoding="utf-8").replace("](../docs/", "](../")
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")

# Reference. A class page shows what classes of this package define, also those that a class inherits from.
# What comes from other libraries is left to their pages: scVI's docstrings refer to pages of its own.
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_use_param = False  # parameters that share a text are one entry
napoleon_attr_annotations = False  # types are in the signature
toc_object_entries_show_parents = "hide"

# Our own public names have to resolve; those of others do where their inventories can be had.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!vmmscvi\b).*"), (r"py:.*", r"vmmscvi\..*\b_.*")]

# Links into other projects need the network, so they are made where that is sure to be there.
if os.environ.get("VMMSCVI_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "author_year"

html_theme = "sphinx_book_theme"
html_title = f"vmmscvi {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "navbar_persistent": [],  # the side bar has the search already
    "max_navbar_depth": 3,  # modules and their classes; deeper names are longer than the menu is wide
    "show_toc_level": 2,
}

# Links to the repository, as soon as pyproject.toml has its address ("Source" in project.urls).
myst_substitutions = {"version": release, "repository": "BSD-3-Clause"}
for entry in metadata("vmmscvi").get_all("Project-URL") or []:
    label, _, address = entry.partition(", ")
    if label == "Source":
        html_theme_options |= {"repository_url": address, "use_repository_button": True}
        myst_substitutions["repository"] = f"[Repository]({address})"

MODELS = ("SCVI", "LinearSCVI", "TOTALVI", "PEAKVI", "POISSONVI", "MULTIVI")
PUBLIC_ALIASES = {
    **{f"vmmscvi.{name}_VMM": f"vmmscvi.model.{name}_VMM" for name in MODELS},
    "vmmscvi.with_vmm": "vmmscvi.model.with_vmm",
    "vmmscvi.pl": "vmmscvi.plotting",
}


def resolve_alias(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Let the short names that users type lead to the pages of the modules."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    for alias, home in PUBLIC_ALIASES.items():
        if target == alias or target.startswith(f"{alias}."):
            full = home + target.removeprefix(alias)
            return env.domains["py"].resolve_xref(
                env, node["refdoc"], app.builder, node["reftype"], full, node, contnode
            )
    return None


BUILTIN = (BuiltinMethodType, ClassMethodDescriptorType, MethodDescriptorType)
"""Methods that Python's own classes bring, such as those of the integers that a state is."""


def is_of_others(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out of a class's page what other libraries have defined."""
    function = obj.fget if isinstance(obj, property) else getattr(obj, "__func__", obj)
    home = getattr(function, "__module__", None)
    is_member = what in ("class", "exception") and callable(function)
    if is_member and isinstance(obj, BUILTIN):
        return True
    return True if is_member and home is not None and home.split(".")[0] != project else None


def setup(app: Any) -> None:
    """Register what Sphinx calls."""
    # here, since tests read this file where Sphinx is not installed
    from _rendering import InheritedMethods, break_names, plain_citations, prose_returns

    app.connect("autodoc-skip-member", is_of_others)
    app.connect("autodoc-process-docstring", prose_returns, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", plain_citations, priority=401)
    app.add_directive("inherited-from-scvi", InheritedMethods)
    app.connect("html-page-context", break_names)
    app.connect("missing-reference", resolve_alias)


# addresses that are there from the first release on, and publishers that answer no machine
linkcheck_ignore = [
    r"https://vmmscvi\.readthedocs\.io/.*",
    r"https://github\.com/OWNER/.*",
    r"https://doi\.org/.*",
]
linkcheck_retries = 3

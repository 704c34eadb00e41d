"""The site: `make docs`. Pages are Markdown, the API comes from docstrings, the gallery from examples/.

Nothing is fetched: fonts are those of the system, formulas are MathML, and no page of another site is asked for.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions")]
for name in ("ENABLE_PROGRESS_BAR", "ENABLE_MODEL_SUMMARY"):
    os.environ[f"PL_TRAINER_{name}"] = "False"  # of Trainers in the gallery
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import lightning_robust  # noqa: E402

project, author = "lightning_robust", "the authors of lightning_robust"
version = release = lightning_robust.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "formulas",  # these are in _extensions/
    "gallery",
    "plain_docstrings",
    "public_names",
    "root_pages",
    "unbroken",
]
exclude_patterns = ["_build", "gallery/*.py", "gallery/*.ipynb"]
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "code"
smartquotes = False
add_module_names = False
python_use_unqualified_type_names = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autosummary_generate = False
napoleon_use_rtype = False
napoleon_use_ivar = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Shown and not run: what starts processes by itself, which a test runs, and what needs Fashion-MNIST, where Debian's
# package has not put it.
NOT_RUN = ["many_processes"]
if not Path("/usr/share/datasets/fashion-mnist").is_dir():
    NOT_RUN.append("robust_accuracy_over_the_radius")

sphinx_gallery_conf = {
    "examples_dirs": "_build/examples",  # a copy, where examples may write files
    "gallery_dirs": "gallery",
    "filename_pattern": rf"/\d\d_(?!{'|'.join(NOT_RUN)})",
    "ignore_pattern": r"^(?!\d\d_)",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("gallery",),
    "reset_modules": (),
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "nested_sections": False,
    "write_computation_times": False,
    "min_reported_time": 1e6,  # seconds under load say nothing
    "default_thumb_file": str(HERE / "_static" / "no_picture.svg"),
}

html_theme = "furo"
html_title = "lightning_robust"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}

linkcheck_timeout = 20
linkcheck_retries = 2

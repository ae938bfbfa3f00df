"""The datasets bundled with the project (see LICENCES.md) and the scripts that made them."""

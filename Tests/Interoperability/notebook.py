"""Executes a notebook in its own folder and counts what it shows: notebook.py NOTEBOOK [OUTPUT]."""
import os
import sys

import nbformat
from nbclient import NotebookClient

path, *output = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
NotebookClient(notebook, timeout=600, resources={"metadata": {"path": os.path.dirname(path)}}).execute()
for cell in notebook.cells:
    cell.metadata.clear()  # when each was executed
outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
figures = [output for output in outputs if "image/png" in output.get("data", {})]
words = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
assert len(figures) == 6, f"the notebook shows {len(figures)} figures, not 6"
assert "feedback: finished" in words and "ordinary: finished" in words, words
if output:
    nbformat.write(notebook, output[0])
print(f"notebook: {len(notebook.cells)} cells, {len(figures)} figures")

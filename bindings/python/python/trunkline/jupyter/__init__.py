"""Jupyter: a notebook at a kernel of trunkline's, and any kernel of Jupyter's on another machine.

python -m trunkline.jupyter install   makes the kernelspec `trunkline`: a notebook, `jupyter console` or `nbclient`
                                      talks to a kernel of trunkline's, a fresh one or one that runs (`--connect`).
python -m trunkline.jupyter serve     lets kernelspecs elsewhere run here, by the provisioner `trunkline-provisioner`.

`pip install trunkline[jupyter]` brings what it needs.
"""

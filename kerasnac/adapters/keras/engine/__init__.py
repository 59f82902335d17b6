"""The training engine: one compiled training for all networks of a mold.

Keras traces and compiles a training for every model, and starts each step from Python: for networks of a few thousand
weights both cost more than the arithmetic. Here an epoch is one call of a function that XLA has compiled once for a
:class:`~kerasnac.core.network.mold.Mold`. Weights, units, depth, norms, activations, number formats, learning rates and
pruning of the network are arguments of that function. What a network lacks is skipped, not computed and thrown away.

The members of a mold are trained one after the other. To stack them along another axis gains nothing on a CPU (0.074 s per
epoch for one, 0.075 s each for sixteen), and so no network depends on its company.
"""

"""The one table of probes."""

from metaformer.analysis.probe import Probe
from metaformer.analysis.probes.rank_collapse import RankCollapse
from metaformer.core.configs import register_table
from metaformer.core.registry import Registry

PROBES: Registry[type] = Registry("probe", {"rank_collapse": RankCollapse})
register_table(Probe, PROBES)

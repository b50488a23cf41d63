"""The one table of probes."""

from metaformer.analysis.probe import Probe
from metaformer.analysis.probes.attention_distance import AttentionDistance
from metaformer.analysis.probes.class_activation import ClassActivation
from metaformer.analysis.probes.curvature import Curvature
from metaformer.analysis.probes.feature_frequencies import FeatureFrequencies
from metaformer.analysis.probes.frequency_response import FrequencyResponse
from metaformer.analysis.probes.module_cost import ModuleCost
from metaformer.analysis.probes.rank_collapse import RankCollapse
from metaformer.analysis.probes.receptive_field import ReceptiveField
from metaformer.analysis.probes.residual_ratio import ResidualRatio
from metaformer.analysis.probes.robustness import Robustness
from metaformer.analysis.probes.similarity import Similarity
from metaformer.core.configs import register_table
from metaformer.core.registry import Registry

PROBES: Registry[type] = Registry(
    "probe",
    {
        "rank_collapse": RankCollapse,
        "similarity": Similarity,
        "feature_frequencies": FeatureFrequencies,
        "frequency_response": FrequencyResponse,
        "receptive_field": ReceptiveField,
        "attention_distance": AttentionDistance,
        "residual_ratio": ResidualRatio,
        "module_cost": ModuleCost,
        "robustness": Robustness,
        "class_activation": ClassActivation,
        "curvature": Curvature,
    },
)
# Probes that take hours on a large model, and are no part of `all`.
ON_REQUEST = ("curvature",)
register_table(Probe, PROBES)

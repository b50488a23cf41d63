"""What a model does and costs: probes for any nn.Module. Knows no MetaFormer."""

from metaformer.analysis.anatomy.blocks import BLOCK_FORMS, BlockForm
from metaformer.analysis.probe import Exhibit, Inputs, Journal, Probe
from metaformer.analysis.table import PROBES

__all__ = ["BLOCK_FORMS", "PROBES", "BlockForm", "Exhibit", "Inputs", "Journal", "Probe"]

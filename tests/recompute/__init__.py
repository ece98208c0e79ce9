"""Recompute every number of a run from its images, without the code that wrote them.

Imports neither `bench` nor the analysis of `metrics`: tables are read by pandas, formulas are taken
from their sources and computed with numpy, scipy, statsmodels and scipy.ndimage. The pocket
scorer's network and the pocket scenes are data here. scripts/recompute prints the comparison.
"""

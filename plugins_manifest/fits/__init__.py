"""Whether a plugin file fits a model: by its tensors' names and shapes, with numpy alone."""

from plugins_manifest.fits.file_fit import FileFit, TargetFit, fit_file
from plugins_manifest.fits.targets import Target, catalog_target

__all__ = ["FileFit", "Target", "TargetFit", "catalog_target", "fit_file"]

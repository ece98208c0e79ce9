"""Cases of a manifest: prompts and images, from lists, files and COCO."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from plugins_manifest.cases.case import Case as Case
    from plugins_manifest.cases.cases import file_cases as file_cases
    from plugins_manifest.cases.cases import inline_cases as inline_cases
    from plugins_manifest.cases.coco import CasesNotFetchedError as CasesNotFetchedError
    from plugins_manifest.cases.coco import coco_cases as coco_cases
    from plugins_manifest.cases.coco_fetch import fetch_coco as fetch_coco

__all__ = ["Case", "CasesNotFetchedError", "coco_cases", "fetch_coco", "file_cases", "inline_cases"]
__getattr__ = lazy_names(
    __name__,
    {
        "Case": "plugins_manifest.cases.case",
        "CasesNotFetchedError": "plugins_manifest.cases.coco",
        "coco_cases": "plugins_manifest.cases.coco",
        "fetch_coco": "plugins_manifest.cases.coco_fetch",
        "file_cases": "plugins_manifest.cases.cases",
        "inline_cases": "plugins_manifest.cases.cases",
    },
)

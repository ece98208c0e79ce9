"""The environment variables that a configuration file can set; docs/environment.md explains them.

Tokens and secrets are not among them: a file of defaults is copied and shared.
"""

from __future__ import annotations

VARIABLES = (
    "XBENCH_CACHE",
    "XBENCH_STORE",
    "XBENCH_COCO",
    "XBENCH_METRIC_WEIGHTS",
    "XBENCH_METRIC_STATISTICS",
    "XBENCH_REFERENCE_IMAGES",
    "XBENCH_IMAGE_ENCODER",
    "XBENCH_SD15_SDXL_BASE",
    "XBENCH_SD15_SDXL_UPGRADED",
    "XBENCH_SD15_SDXL_UPGRADED_VAE",
    "XBENCH_SD15_SDXL_MAPPER",
    "XBENCH_SD15_SD21_BASE",
    "XBENCH_SD15_SD21_UPGRADED",
    "XBENCH_SD15_SD21_UPGRADED_VAE",
    "XBENCH_SD15_SD21_MAPPER",
    "XBENCH_METRIC_DEVICE",
    "XBENCH_FETCH_RATE",
    "XBENCH_COCO_URL",
    "XBENCH_S3_ANONYMOUS",
    "XBENCH_RESULTS",
    "XBENCH_VOTES",
    "XBENCH_STUDY_NEW_RATERS",
    "XBENCH_ALLOW_HOST",
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HTTPS_PROXY",
    "SSL_CERT_FILE",
    "NO_COLOR",
)
SECRETS = (
    "CIVITAI_TOKEN",
    "CIVITAI_API_TOKEN",
    "CIVITAI_API_KEY",
    "HF_TOKEN",
    "XBENCH_STUDY_SECRET",
)
